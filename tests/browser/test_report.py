"""The HTML report in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from benchmarks.html import make_document
from pytest_tfleak.verdict import Ledger
from pytest_tfleak.verdict import Verdict
from tests.browser.chromium import open_chromium
from tests.browser.conftest import TESTS
from tests.browser.conftest import write


def shown(driver: Any) -> list[str]:
    """Return the verdict and the name of each test shown, in order."""
    script = """
        return [...document.querySelectorAll("#tests > tbody")]
            .filter((body) => body.offsetHeight > 0)
            .map((body) => body.rows[0].cells[1].textContent.trim())
    """
    names: list[str] = driver.execute_script(script)
    return names


def column(driver: Any, key: str) -> list[float]:
    """Return the numbers that the tests are sorted by, without missing ones."""
    script = f"""
        return [...document.querySelectorAll("#tests > tbody")]
            .map((body) => body.dataset.{key}).filter(Boolean).map(Number)
    """
    numbers: list[float] = driver.execute_script(script)
    return numbers


def find(driver: Any, selector: str) -> Any:
    """Wait for an element, and return the first."""
    from selenium.webdriver.support.ui import WebDriverWait

    waiting = WebDriverWait(driver, 30)
    return waiting.until(lambda _: driver.find_element("css selector", selector))


def sort_by(driver: Any, key: str) -> str:
    """Click a header and return the direction that it then shows."""
    find(driver, f"[data-sort={key}] button").click()
    (header,) = driver.find_elements("css selector", "th[aria-sort]")
    assert header.get_attribute("data-sort") == key
    return str(header.get_attribute("aria-sort"))


def names_in_order() -> list[str]:
    ledger = Ledger()
    for data in make_document(TESTS)["tests"]:
        ledger.add(Verdict.from_dict({**data, "schema": 1}))
    return [verdict.nodeid for verdict in ledger.verdicts()]


def test_it_opens_without_console_messages(opened: Any) -> None:
    assert re.fullmatch(r"tfleak: \d+ leaks? in 120 tests", opened.title)
    assert opened.get_log("browser") == []
    assert find(opened, "#shown").text == "120 of 120 tests shown"


def test_it_loads_no_other_file(opened: Any) -> None:
    script = "return performance.getEntriesByType('resource').map((e) => e.name)"
    assert opened.execute_script(script) == []


def test_the_worst_test_comes_first_until_the_user_sorts(
    opened: Any,
) -> None:
    order = names_in_order()
    assert shown(opened) == order
    assert sort_by(opened, "name") == "ascending"
    assert shown(opened) == sorted(order)
    assert sort_by(opened, "name") == "descending"
    assert shown(opened) == sorted(order, reverse=True)
    assert sort_by(opened, "verdict") == "descending"
    assert shown(opened) == order


def test_growth_is_sorted_with_the_rates_of_one_unit_together(opened: Any) -> None:
    script = """
        return [...document.querySelectorAll("#tests > tbody")]
            .map((body) => [body.dataset.unit, body.dataset.growth])
            .filter(([, growth]) => growth)
    """
    for direction in ("descending", "ascending"):
        assert sort_by(opened, "growth") == direction
        by_unit = {
            unit: [float(growth) for _, growth in rates]
            for unit, rates in groupby(opened.execute_script(script), lambda x: x[0])
        }
        units = {unit for unit, _ in opened.execute_script(script)}
        assert len(units) == len(by_unit) > 2
        for rates in by_unit.values():
            assert rates == sorted(rates, reverse=direction == "descending")
        assert not find(opened, "#tests > tbody:last-of-type .g").text


@pytest.mark.parametrize("key", ["memory", "iterations", "seconds"])
def test_figures_are_sorted_as_numbers(opened: Any, key: str) -> None:
    assert sort_by(opened, key) == "descending"
    numbers = column(opened, key)
    assert numbers == sorted(numbers, reverse=True) and len(set(numbers)) > 1
    assert sort_by(opened, key) == "ascending"
    assert column(opened, key) == sorted(numbers)


def test_verdicts_are_filtered(opened: Any) -> None:
    for status in ("clean", "not_measured", "inconclusive"):
        find(opened, f"[type=checkbox][value={status}]").click()
    leaks = opened.find_elements("css selector", "#tests > tbody.leak")
    assert len(shown(opened)) == len(leaks) > 0
    assert find(opened, "#shown").text == f"{len(leaks)} of 120 tests shown"


def test_names_and_findings_are_searched(opened: Any) -> None:
    box = find(opened, "#search")
    box.send_keys("Test_Predict.py")
    named = shown(opened)
    assert 0 < len(named) < TESTS
    assert all("test_predict.py" in name for name in named)
    box.clear()
    box.send_keys("cache.py:88")
    assert 0 < len(shown(opened)) < 10
    box.send_keys(" nothing like this")
    assert shown(opened) == []


def test_a_test_is_expanded_by_its_summary_and_by_its_figures(opened: Any) -> None:
    body = find(opened, "#tests > tbody.leak")
    assert not body.find_elements("css selector", ".chart")
    find(body, "summary").click()
    assert find(body, ".chart").is_displayed()
    assert find(body, ".signals").is_displayed()
    find(body, "td.g").click()
    assert not find(body, ".chart").is_displayed()


def test_the_only_test_is_open(browser: Any, tmp_path: Path) -> None:
    browser.get(write(tmp_path / "one.html", 1))
    assert browser.title == "tfleak: 1 leak in 1 test"
    assert find(browser, "details[open] .chart").is_displayed()


def test_everything_is_reached_by_keyboard(opened: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    leaks = opened.find_elements("css selector", "#leaks summary, #leaks a")
    above = sum(link.is_displayed() for link in leaks)
    reached = []
    for _ in range(above + 16):
        opened.switch_to.active_element.send_keys(Keys.TAB)
        active = opened.switch_to.active_element
        reached.append(f"{active.tag_name} {active.get_attribute('type') or ''}")
        outline = active.value_of_css_property("outline-style")
        assert outline != "none"
    assert set(reached[:above]) <= {"summary ", "a "}
    kinds = list(dict.fromkeys(reached[above:]))
    assert kinds == ["input checkbox", "input search", "button button", "summary "]
    opened.switch_to.active_element.send_keys(Keys.ENTER)
    assert find(opened, "details[open] .test").is_displayed()


@pytest.mark.parametrize("clipboard", ["a secure page's", "none"])
def test_the_message_is_copied(opened: Any, clipboard: str) -> None:
    from selenium.webdriver.common.keys import Keys

    if clipboard == "none":
        script = "Object.defineProperty(navigator, 'clipboard', {value: undefined})"
        opened.execute_script(script)
    body = find(opened, "#tests > tbody.leak")
    find(body, "summary").click()
    find(body, ".copy")
    for button, start in zip(
        body.find_elements("css selector", ".copy"),
        ("LEAK: ", "@pytest.mark.tfleak("),
        strict=True,
    ):
        button.click()
        find(opened, ".copy[aria-label^='Copied: ']")
        box = find(opened, "#search")
        box.send_keys(Keys.CONTROL, "v")
        assert str(box.get_property("value")).startswith(start)
        box.send_keys(Keys.CONTROL, "a")
        box.send_keys(Keys.BACKSPACE)


def test_all_leaks_are_open_on_paper(opened: Any) -> None:
    closed = "return document.querySelectorAll('#leaks details:not([open])').length"
    before = opened.execute_script(closed)
    assert before > 0
    opened.execute_script("dispatchEvent(new Event('beforeprint'))")
    assert opened.execute_script(closed) == 0
    opened.execute_script("dispatchEvent(new Event('afterprint'))")
    assert opened.execute_script(closed) >= before


def test_a_page_is_opened_at_a_test(browser: Any, page: str) -> None:
    browser.get("about:blank")
    browser.get(f"{page}#test-2")
    assert find(browser, "#test-2 details[open] .test").is_displayed()


def test_a_leak_leads_to_its_tests(opened: Any) -> None:
    link = find(opened, "#leaks a")
    target = link.get_attribute("href").partition("#")[2]
    link.click()
    assert find(opened, f"#{target} details[open] .test").is_displayed()


def test_a_header_sorts_by_keyboard(opened: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    find(opened, "[data-sort=name] button").send_keys(Keys.ENTER)
    assert shown(opened) == sorted(shown(opened))


def test_a_screen_reader_finds_all_tests(opened: Any) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    def headers(driver: Any) -> list[str]:
        root = driver.execute_cdp_cmd("DOM.getDocument", {})["root"]["nodeId"]
        query = {"nodeId": root, "role": "rowheader"}
        found = driver.execute_cdp_cmd("Accessibility.queryAXTree", query)["nodes"]
        return [node["name"]["value"].replace(":: ", "::") for node in found]

    sort_by(opened, "name")
    order = sorted(names_in_order())
    WebDriverWait(opened, 30).until(lambda driver: headers(driver)[:TESTS] == order)


def test_the_details_of_2000_tests_are_there_once_they_are_opened(
    browser: Any, large_page: Path
) -> None:
    assert large_page.stat().st_size < 10_000_000
    browser.get(large_page.as_uri())
    assert find(browser, "#shown").text == "2,000 of 2,000 tests shown"
    elements = browser.execute_script("return document.querySelectorAll('*').length")
    assert elements < 60_000
    last = browser.find_elements("css selector", "#tests > tbody > tr summary")[-1]
    browser.execute_script("arguments[0].scrollIntoView()", last)
    last.click()
    assert find(browser, "details[open] .signals").is_displayed()


def test_nothing_is_wider_than_a_narrow_window(opened: Any) -> None:
    size = {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        find(opened, "#tests > tbody.leak summary").click()
        width = opened.execute_script("return document.documentElement.scrollWidth")
        assert width <= 400
        find(opened, "[type=checkbox][value=leak]").click()
        assert not find(opened, "#tests > tbody.leak").is_displayed()
    finally:
        opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.fixture
def no_script(browser: Any, page: str) -> Iterator[Any]:
    with open_chromium(script=False) as driver:
        driver.get(page)
        yield driver


def test_tables_and_details_work_without_a_script(no_script: Any) -> None:
    assert not find(no_script, "#controls").is_displayed()
    assert not no_script.find_elements("css selector", "th button")
    rows = no_script.find_elements("css selector", "#tests > tbody > tr > th")
    assert len(rows) == TESTS and rows[0].is_displayed()
    body = find(no_script, "#tests > tbody.leak")
    find(body, "summary").click()
    for part in (".chart", ".signals", "dd pre"):
        assert find(body, part).is_displayed()
    assert not find(body, "[data-copy]").is_displayed()
    assert not no_script.find_elements("css selector", ".copy")


@pytest.fixture(params=["light", "dark"])
def colours(request: pytest.FixtureRequest, browser: Any, page: str) -> Iterator[Any]:
    scheme = {"name": "prefers-color-scheme", "value": request.param}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    browser.get(page)
    yield browser
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def luminance(colour: str) -> float:
    channels = [int(c) / 255 for c in re.findall(r"\d+", colour)[:3]]
    red, green, blue = (
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_text_has_enough_contrast(colours: Any) -> None:
    find(colours, "#tests > tbody.leak summary").click()
    paper = find(colours, "body").value_of_css_property("background-color")
    texts = "h1, summary, td.g small, .test dt, .level, .figure, .copy, #leaks a"
    for selector in (*texts.split(", "), "#leaks summary span"):
        ink = find(colours, selector).value_of_css_property("color")
        assert contrast(ink, paper) >= 4.5, selector
    for badge in colours.find_elements("css selector", ".badge")[:12]:
        ink = badge.value_of_css_property("color")
        assert contrast(ink, badge.value_of_css_property("background-color")) >= 4.5
    for part in ("path.m", "path.c", "path.w"):
        line = find(colours, f".chart {part}").value_of_css_property("stroke")
        assert contrast(line, paper) >= 3, part


def test_the_page_follows_the_system_s_dark_mode(colours: Any, page: str) -> None:
    paper = find(colours, "body").value_of_css_property("background-color")
    is_dark = colours.execute_script(
        "return matchMedia('(prefers-color-scheme: dark)').matches"
    )
    assert (luminance(paper) < 0.1) == is_dark
