"""The table of signals, and the functions that look it up."""

from __future__ import annotations

import dataclasses
from array import array
from typing import Any

import pytest

from pytest_tfleak import signals
from pytest_tfleak.measurement import Measurement
from pytest_tfleak.measurement import Setting
from pytest_tfleak.plan import Plan
from pytest_tfleak.plan import make_plan
from pytest_tfleak.plan import option_table
from pytest_tfleak.probes import make_probes
from pytest_tfleak.probes.base import Probe
from pytest_tfleak.probes.census import Census
from pytest_tfleak.reports.held_by import edges_of
from pytest_tfleak.reports.message import failure_text
from pytest_tfleak.reports.words import ordered
from pytest_tfleak.signals import SIGNALS
from pytest_tfleak.signals import Family
from pytest_tfleak.signals import SignalRow
from pytest_tfleak.signals import base_name
from pytest_tfleak.signals import counts_whole_run
from pytest_tfleak.signals import is_memory
from pytest_tfleak.signals import is_size
from pytest_tfleak.signals import make_signal
from pytest_tfleak.signals import names_of
from pytest_tfleak.signals import rank
from pytest_tfleak.signals import row_of
from pytest_tfleak.trace import Signal
from pytest_tfleak.verdict import Verdict


class Connection:
    """An object that an application makes and its pool keeps."""


POOL: list[Connection] = []


class PoolProbe(Probe):
    """Counts the connections in the pool."""

    name = "pool"

    def signals(self) -> list[Signal]:
        return [make_signal("pool.connections")]

    def read(self, buffer: array[int], start: int, deep: bool) -> None:
        buffer[start] = len(POOL)


OPTIONS = {field.name for field in dataclasses.fields(Plan)}


def test_the_allowances_are_the_options_that_limit_growth() -> None:
    options = {option.name for option in option_table() if option.group == "allowance"}
    assert options == signals.ALLOWANCES


def test_each_signal_has_one_row() -> None:
    names = [row.name for row in SIGNALS]
    assert len(set(names)) == len(names)
    read = {
        base_name(s.name) for probe in make_probes(Census()) for s in probe.signals()
    }
    unread = {row.name for row in SIGNALS} - read
    assert read <= set(names)
    # scopes are found when state is restored, and the others only with a GPU
    assert unread - {"gpu.peak", "gpu.tensors"} < set(names_of("scope"))


@pytest.mark.parametrize("row", SIGNALS, ids=lambda row: row.name)
def test_a_row_names_only_existing_signals_and_options(row: SignalRow) -> None:
    assert {*row.behind, *row.part_of} <= {row.name for row in SIGNALS}
    assert row.instead_of is None or row.instead_of in {row.name for row in SIGNALS}
    for option in (row.allowance, row.total):
        assert option in OPTIONS or not isinstance(option, str)
    if row.unit not in ("B", "blocks"):
        assert row.one and row.many


def test_an_option_is_a_rate_or_a_total_for_all_its_signals() -> None:
    totals = {row.option for row in SIGNALS if row.allows == "total" and row.option}
    rates = {row.option for row in SIGNALS if row.allows == "rate" and row.option}
    assert totals & rates == set()
    options = {option for option in OPTIONS if counts_whole_run(option)}
    assert options == {"sessions", "graphs", "host_total", "gpu_total"}


def test_the_unit_of_an_option_says_whether_it_is_a_rate() -> None:
    options = {option.name: option.unit for option in option_table()}
    named = {row.option for row in SIGNALS} | {row.total or "" for row in SIGNALS}
    for option in named - {""}:
        is_rate = options[option].endswith("per iteration")
        assert is_rate is not counts_whole_run(option), option


def test_rows_stand_family_by_family_in_the_order_of_rank() -> None:
    places = [rank(row.name, row.unit)[1] for row in SIGNALS]
    assert places == sorted(places)
    told = [
        rank("tf.tapes", "entries", is_left=True),
        rank("tf.tensors", "tensors"),
        rank("tf.sessions", "open sessions", is_left=True),
        rank("pool.rows", "rows"),
        rank("process.fds", "descriptors"),
        rank("pool.objects", "objects"),
        rank("python.objects", "objects"),
        rank("pool.bytes", "B"),
        rank("host.heap", "B"),
    ]
    assert told == sorted(told)


def test_objects_rank_before_memory() -> None:
    names = ["host.rss", "gpu.allocator[GPU:0]", "python.blocks", "my.bytes", "db.rows"]
    names += ["tf.tensors", "tf.traces", "tf.sessions", "tf.tapes", "host.heap"]
    bytes_ = ("host.", "gpu.", "my.")
    ranked = sorted(
        names, key=lambda name: rank(name, "B" if name.startswith(bytes_) else "n")
    )
    assert ranked == [
        "tf.sessions",
        "tf.tapes",
        "tf.traces",
        "tf.tensors",
        "db.rows",
        "gpu.allocator[GPU:0]",
        "my.bytes",
        "python.blocks",
        "host.heap",
        "host.rss",
    ]


@pytest.mark.parametrize(
    ("unit", "one"),
    [("entries", "entry"), ("processes", "process"), ("rows", "row"), ("data", "data")],
)
def test_one_of_a_third_partys_objects_is_named(unit: str, one: str) -> None:
    assert row_of("my.signal", unit).one == one


def test_a_probe_names_the_device_and_takes_the_rest_from_the_row() -> None:
    assert make_signal("gpu.allocator", "GPU:1") == Signal(
        name="gpu.allocator[GPU:1]",
        unit="B",
        allowance="gpu_per_iteration",
        total="gpu_total",
    )
    assert row_of("gpu.allocator[GPU:1]", "B") is row_of("gpu.allocator")
    with pytest.raises(KeyError, match=r"gpu\.alocator"):
        make_signal("gpu.alocator")


@pytest.mark.parametrize(
    ("unit", "family", "memory", "size"),
    [
        ("B", "memory", True, True),
        ("blocks", "memory", True, True),
        ("objects", "object", True, False),
        ("connections", "other", False, False),
    ],
)
def test_a_signal_without_a_row_is_described_by_its_unit(
    unit: str, family: str, memory: bool, size: bool
) -> None:
    name = "pool.use[db:1]"
    assert row_of(name, unit).family == family
    assert is_memory(name, unit) is memory
    assert is_size(name, unit) is size


def with_row(monkeypatch: pytest.MonkeyPatch, **more: Any) -> None:
    """Add the row of a signal that counts the connections in the pool."""
    row = SignalRow(
        name="pool.connections",
        unit="connections",
        types=((__name__, "Connection"),),
        grows="connections to the database",
        one="connection",
        many="connections",
        **more,
    )
    monkeypatch.setattr(signals, "SIGNALS", (*SIGNALS, row))


def leaking(**options: object) -> Verdict:
    """Return the verdict on a body that adds a connection to the pool each time."""
    return Measurement(
        lambda: POOL.append(Connection()),
        make_plan(iterations=10, warmup=1, **options),
        Setting(
            nodeid="test_pool",
            probes=lambda census: [*make_probes(census), PoolProbe()],
        ),
    ).run()


@pytest.mark.parametrize("family", ["session", "graph", "tensor", "registry", "system"])
def test_a_new_signal_needs_a_row_and_a_probe(
    monkeypatch: pytest.MonkeyPatch, family: Family
) -> None:
    with_row(monkeypatch, family=family, allowance="layers", state="open")

    verdict = leaking(blocks=0.5)

    lead, *others = ordered(verdict.failing)
    # one block each, while the interpreter itself allocates and frees some
    assert {finding.signal for finding in others} <= {"python.blocks"}
    assert lead.signal == "pool.connections"
    assert lead.kind == f"{__name__}.Connection"
    assert lead.path is not None
    assert edges_of(lead.path)[0].startswith(f"{__name__}.POOL (list of")
    assert lead.origin is not None and lead.origin.text.startswith("lambda: POOL")
    text = failure_text(verdict)
    assert "what grows   connections to the database (pool.connections)" in text
    assert "layers=1" in text
    assert not leaking(layers=1).failing


def test_a_new_signal_may_be_allowed_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    with_row(monkeypatch, family="session", allowance="graphs", allows="total")

    (finding,) = leaking(graphs=1).failing

    assert (finding.total, finding.allowance, finding.allow) == (19, 1, "graphs")
    assert not leaking(graphs=20).failing


def test_a_new_signal_of_memory_explains_itself_by_what_piles_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with_row(monkeypatch, family="device", allowance="layers")

    (finding,) = leaking().failing

    assert finding.path is not None
    assert edges_of(finding.path)[0].startswith(f"{__name__}.POOL (list of")
