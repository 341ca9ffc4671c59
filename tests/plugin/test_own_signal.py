"""A signal that a user adds, with and without a row in the table."""

from __future__ import annotations

import pytest

APP = """
class Connection:
    def __init__(self, size=1):
        self.size = size
        self.buffer = bytearray(size)

POOL = []
OPENED = 0

def open_one():
    global OPENED
    OPENED += 1
"""
TEST = """
import myapp
import pytest

@pytest.mark.tfleak(iterations=10)
def test_pool():
    myapp.POOL.append(myapp.Connection())
"""
PROBE = """
class PoolProbe(Probe):
    name = "pool"

    def signals(self):
        return [SIGNAL]

    def read(self, buffer, start, deep):
        buffer[start] = SIZE


def pytest_tfleak_probes(census):
    return [PoolProbe()]
"""


def shown(
    pytester: pytest.Pytester,
    conftest: str,
    test: str = TEST,
    size: str = "sum(connection.size for connection in myapp.POOL)",
) -> str:
    """Run a leaking test with a probe of a size, and return pytest's output."""
    imports = "import myapp\nfrom pytest_tfleak.probes.base import Probe\n"
    pytester.makepyfile(myapp=APP)
    pytester.makeconftest(imports + conftest + PROBE.replace("SIZE", size))
    pytester.makepyfile(test_pool=test)
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(failed=1)
    return " ".join(result.stdout.str().split())


def test_a_signal_without_a_row_is_worded_by_its_unit(
    pytester: pytest.Pytester,
) -> None:
    text = shown(
        pytester,
        """
from pytest_tfleak.trace import Signal

SIGNAL = Signal(name="pool.connections", unit="connections", allowance=0)
""",
    )
    assert "LEAK: pool.connections +1 per iteration at test_pool.py:6" in text
    assert "what grows connections (pool.connections)" in text
    assert "held by myapp.POOL (list of" in text
    assert "made at test_pool.py:6 in test_pool" in text


@pytest.mark.parametrize("unit", ["connections", "B"])
def test_a_number_is_not_explained_by_what_nobody_keeps(
    pytester: pytest.Pytester, unit: str
) -> None:
    text = shown(
        pytester,
        f"""
from pytest_tfleak.trace import Signal

SIGNAL = Signal(name="pool.opened", unit="{unit}", allowance=0)
""",
        test=TEST.replace("myapp.POOL.append(myapp.Connection())", "myapp.open_one()"),
        size="myapp.OPENED",
    )
    assert "LEAK: pool.opened +1" in text
    for row in ("what 1", "held by", "cause", "what to do", "C or C++"):
        assert row not in text


def test_bytes_without_a_row_are_explained_as_memory(
    pytester: pytest.Pytester,
) -> None:
    text = shown(
        pytester,
        """
from pytest_tfleak.trace import Signal

SIGNAL = Signal(name="pool.bytes", unit="B", allowance="gpu_per_iteration")
""",
        test=TEST.replace("Connection()", "Connection(4096)"),
    )
    assert "LEAK: pool.bytes +4 KiB" in text
    assert "what grows memory (pool.bytes)" in text
    assert "held by myapp.POOL (list of" in text
    assert 'to allow it @pytest.mark.tfleak(gpu_per_iteration="5' in text


def test_a_row_and_a_probe_are_all_that_a_signal_needs(
    pytester: pytest.Pytester,
) -> None:
    text = shown(
        pytester,
        """
from pytest_tfleak import signals

signals.SIGNALS = (
    signals.SignalRow(
        name="pool.connections",
        unit="connections",
        family="system",
        allowance="sessions",
        allows="total",
        types=(("myapp", "Connection"),),
        grows="connections to the database",
    ),
    *signals.SIGNALS,
)
SIGNAL = signals.make_signal("pool.connections")
""",
    )
    assert "LEAK: pool.connections +1 per iteration at test_pool.py:6" in text
    assert "what grows connections to the database (pool.connections)" in text
    assert "held by myapp.POOL (list of" in text
    assert "made at test_pool.py:6 in test_pool" in text
    assert "to allow it @pytest.mark.tfleak(sessions=25)" in text
