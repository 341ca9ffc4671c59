"""Keep what a finished test leaves in memory small until the run ends.

pytest keeps the reports of all tests, and the elements of its JUnit file. With verdicts
and properties in them, each test would leave 130 KiB in the memory that is measured.
"""

from __future__ import annotations

import json
import zlib
from collections import defaultdict
from collections.abc import Callable
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING
from typing import Any

import pytest

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from pytest_tfleak.verdict import Ledger

#: Attributes of a report that carry verdicts and the environment.
CARRIED = ("tfleak", "tfleak_environment")
#: The names of the plugin's properties begin with it.
PREFIX = "tfleak."


class PackedVerdicts:
    """Verdicts that are not needed before the run ends, about 1 KiB each."""

    def __init__(self) -> None:
        self._packed: list[bytes] = []
        self._ledger: Ledger | None = None

    def add(self, data: dict[str, Any]) -> None:
        """Add a verdict as ``Verdict.to_dict`` returns it."""
        self._packed.append(zlib.compress(json.dumps(data).encode()))
        self._ledger = None

    def ledger(self) -> Ledger | None:
        """Return all verdicts, None if there are none."""
        if self._ledger is None and self._packed:
            from pytest_tfleak.verdict import Ledger
            from pytest_tfleak.verdict import Verdict

            self._ledger = Ledger()
            for packed in self._packed:
                data = json.loads(zlib.decompress(packed))
                self._ledger.add(Verdict.from_dict(data))
        return self._ledger


class FinishedTests:
    """Drops verdicts and properties from pytest's records once they have been read."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._reports: defaultdict[object, list[pytest.TestReport]] = defaultdict(list)
        self._taken = 0  # tests of pytest's JUnit file that were looked at
        self._unfinished: list[Any] = []  # those of them that were still running

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Drop the verdicts at once, and the properties when the test is done."""
        for name in CARRIED:
            vars(report).pop(name, None)
        test = report.nodeid, getattr(report, "node", None)
        if own_properties(report.user_properties):
            self._reports[test].append(report)
        if report.when == "teardown" and test in self._reports:
            for one in self._reports.pop(test):
                drop_properties(one.user_properties)
            # the elements are pytest's: if they cannot be packed, they stay as they are
            with suppress(Exception):
                self._pack_junit()

    def _pack_junit(self) -> None:
        """Pack the elements that pytest has made of finished tests."""
        from _pytest.junitxml import xml_key

        xml = self._config.stash.get(xml_key, None)
        if xml is None:
            return
        tests = [*self._unfinished, *xml.node_reporters_ordered[self._taken :]]
        self._taken = len(xml.node_reporters_ordered)
        self._unfinished = [test for test in tests if not _pack(test)]


def _pack(test: Any) -> bool:
    """Pack the element of a test if it is finished; return whether it is."""
    make: Callable[[], Element] | None = vars(test).get("to_xml")
    if make is None:
        return False
    element = make()
    if any(_is_own(found.attrib.get("name")) for found in element.iter("property")):
        packed = zlib.compress(json.dumps(_plain(element)).encode())
        test.to_xml = lambda: _element(json.loads(zlib.decompress(packed)))
    return True


def _plain(element: Element) -> list[Any]:
    """Return an element as builtins."""
    inner = [_plain(child) for child in element]
    return [element.tag, element.attrib, element.text, element.tail, inner]


def _element(plain: list[Any]) -> Element:
    from xml.etree.ElementTree import Element

    tag, attributes, text, tail, inner = plain
    element = Element(tag, attributes)
    element.text, element.tail = text, tail
    element.extend(map(_element, inner))
    return element


def drop_properties(pairs: list[Any]) -> None:
    """Remove the plugin's properties from a list, to which tests add what they like."""
    if own_properties(pairs):
        pairs[:] = [pair for pair in pairs if not own_properties([pair])]


def own_properties(pairs: Sequence[Any]) -> list[str]:
    """Return the names of the plugin's properties in a list."""
    firsts = [pair[0] for pair in pairs if isinstance(pair, tuple | list) and pair]
    return [name for name in firsts if _is_own(name)]


def _is_own(name: object) -> bool:
    return isinstance(name, str) and name.startswith(PREFIX)
