"""The card that each worker gets."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pytest_tfleak.probes.gpu.per_worker import cards_in
from pytest_tfleak.probes.gpu.per_worker import describe
from pytest_tfleak.probes.gpu.per_worker import share_of
from pytest_tfleak.probes.gpu.per_worker import shares_card
from pytest_tfleak.probes.gpu.per_worker import take_card
from pytest_tfleak.probes.gpu.per_worker import workers_of


@pytest.mark.parametrize(
    ("visible", "cards"),
    [
        ("0,1", ("0", "1")),
        (" 2 , 0 ", ("2", "0")),
        ("GPU-1a,GPU-2b", ("GPU-1a", "GPU-2b")),
        ("MIG-1a", ("MIG-1a",)),
        ("0,-1,1", ("0",)),
        ("0,nonsense,1", ("0",)),
        ("0,0,1", ("0", "1")),
        ("", ()),
        ("-1", ()),
        ("NoDevFiles", ()),
    ],
)
def test_a_list_is_read_as_cuda_reads_it(visible: str, cards: tuple[str, ...]) -> None:
    assert cards_in(visible) == cards


@pytest.mark.parametrize(
    ("worker", "workers", "card", "is_own"),
    [
        ("gw0", 2, "a", True),
        ("gw1", 2, "b", True),
        ("gw1", 3, "b", False),
        ("gw2", 3, "a", False),
        ("gw2", 2, "a", False),  # takes the place of one that crashed
    ],
)
def test_workers_share_cards_if_there_are_fewer(
    worker: str, workers: int, card: str, is_own: bool
) -> None:
    share = share_of(worker, workers, ["a", "b"])
    assert share is not None
    assert (share.card, share.is_own) == (card, is_own)


@pytest.mark.parametrize(("worker", "cards"), [("gw0", []), ("mine", ["a"])])
def test_without_a_card_or_a_number_there_is_no_share(
    worker: str, cards: list[str]
) -> None:
    assert share_of(worker, 1, cards) is None


def test_only_a_worker_takes_a_card() -> None:
    controller = {"CUDA_VISIBLE_DEVICES": "0,1"}
    take_card(controller)
    assert controller == {"CUDA_VISIBLE_DEVICES": "0,1"}
    worker = {
        **controller,
        "PYTEST_XDIST_WORKER": "gw1",
        "PYTEST_XDIST_WORKER_COUNT": "2",
    }
    assert shares_card(worker)
    take_card(worker)
    assert worker["CUDA_VISIBLE_DEVICES"] == "1"
    assert not shares_card(worker)
    worker["CUDA_VISIBLE_DEVICES"] = "0"  # set by other code
    assert shares_card(worker)


def test_a_worker_among_more_than_there_are_cards_shares() -> None:
    worker = {
        "CUDA_VISIBLE_DEVICES": "0",
        "PYTEST_XDIST_WORKER": "gw0",
        "PYTEST_XDIST_WORKER_COUNT": "2",
    }
    take_card(worker)
    assert shares_card(worker)
    assert not shares_card({**worker, "PYTEST_XDIST_WORKER_COUNT": "1"})
    assert not shares_card({})


def test_the_header_says_what_is_done() -> None:
    two = {"CUDA_VISIBLE_DEVICES": "0,1"}
    assert describe(two, 1) == "GPUs: the worker has a card of its own, of 0, 1"
    assert describe(two, 3) == (
        "GPUs: 3 workers share 2 cards (0, 1); gpu.device is off"
    )


@pytest.mark.parametrize(
    ("tx", "count"),
    [([], 0), (None, 0), (["popen", "popen"], 2), (["3*popen", "ssh=host"], 4)],
)
def test_workers_are_counted_as_xdist_counts_them(
    tx: list[str] | None, count: int
) -> None:
    config = SimpleNamespace(getoption=lambda name, default: tx)
    assert workers_of(config) == count
