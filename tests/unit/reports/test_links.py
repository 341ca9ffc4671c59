"""Messages and reports link to the page on a cause, once the owner has a site."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from email.message import Message
from importlib.metadata import PackageNotFoundError

import pytest

from pytest_tfleak.reports import links
from pytest_tfleak.reports.document import make_document
from pytest_tfleak.reports.html import render as render_html
from pytest_tfleak.reports.message import failure_text
from pytest_tfleak.verdict import Verdict
from tests.builders import make_finding
from tests.builders import make_leak

PAGE = "https://example.org/tfleak/causes/tensor-kept.html"
ENVIRONMENT: dict[str, object] = {}
Name = Callable[[str], None]


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    links.site_of_docs.cache_clear()
    yield
    links.site_of_docs.cache_clear()


@pytest.fixture
def name_site(monkeypatch: pytest.MonkeyPatch) -> Name:
    """Return a function that sets the address in the metadata of the package."""

    def name(address: str) -> None:
        text = Message()
        text["Project-URL"] = "Source, https://example.org/source"
        text["Project-URL"] = f"Documentation, {address}"
        monkeypatch.setattr(links, "metadata", lambda package: text)

    return name


def leak() -> Verdict:
    finding = make_finding(cause="tensor-kept", why="It is kept.", advice="Drop it.")
    return make_leak(finding)


def test_a_message_names_the_page_on_its_cause(name_site: Name) -> None:
    name_site("https://example.org/tfleak/")
    assert f"  what to do   Drop it.\n  read more    {PAGE}\n" in failure_text(leak())


def test_an_address_is_never_broken_or_cut(name_site: Name) -> None:
    name_site("https://example.org/" + "long-name-of-an-organisation/" * 3)
    lines = failure_text(leak(), width=60).splitlines()
    assert any(line.endswith("/causes/tensor-kept.html") for line in lines)


def test_reports_have_the_page(name_site: Name) -> None:
    name_site("https://example.org/tfleak")
    document = make_document([leak()], ENVIRONMENT, complete=True)
    assert document["leaks"][0]["cause_page"] == PAGE
    assert document["tests"][0]["findings"][0]["cause_page"] == PAGE
    assert f'<a href="{PAGE}">' in render_html(document)


def test_an_entry_of_a_document_is_a_verdict_still(name_site: Name) -> None:
    name_site("https://example.org/tfleak")
    entry = make_document([leak()], ENVIRONMENT, complete=True)["tests"][0]
    assert Verdict.from_dict({"schema": 1, **entry}) == leak()


@pytest.mark.parametrize("site", ["https://OWNER.example.org/tfleak", ""])
def test_nothing_links_to_a_site_that_is_not_there(name_site: Name, site: str) -> None:
    name_site(site)
    assert "read more" not in failure_text(leak())


def test_a_package_that_is_not_installed_has_no_site(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(package: str) -> Message:
        raise PackageNotFoundError(package)

    monkeypatch.setattr(links, "metadata", missing)
    assert links.cause_page("tensor-kept") is None


def test_without_a_cause_there_is_no_page(name_site: Name) -> None:
    name_site("https://example.org/tfleak")
    assert links.cause_page(None) is None
