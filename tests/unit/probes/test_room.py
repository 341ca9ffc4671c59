"""How much is free: by cgroups of both versions, limits of the process, the machine."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest

from pytest_tfleak.probes import room
from pytest_tfleak.probes.room import SWAPPED
from pytest_tfleak.probes.room import Free
from pytest_tfleak.probes.room import descriptor_room
from pytest_tfleak.probes.room import free_memory
from pytest_tfleak.probes.room import make_memory_reader
from pytest_tfleak.probes.room import memory_rooms
from pytest_tfleak.probes.room import thread_room

GIB = 2**30
V1_UNLIMITED = "9223372036854771712"


@pytest.fixture(autouse=True)
def _machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in for a machine with 8 GiB free, and no swap or limits."""
    psutil = pytest.importorskip("psutil")
    memory, swap = SimpleNamespace(available=8 * GIB), SimpleNamespace(free=0)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    monkeypatch.setattr(psutil, "swap_memory", lambda: swap)
    monkeypatch.setattr(room, "_soft_limit", lambda _: None)


def put(root: Path, **files: str) -> None:
    """Write files; two underscores in a name are a slash, one is a dot."""
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def group(root: Path, folder: str, **figures: object) -> None:
    path = root / folder
    path.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        path.joinpath(name.replace("memory_", "memory.")).write_text(f"{figure}\n")


def mount(root: Path, groups: str, *mounts: str) -> None:
    put(root, proc__self__cgroup=groups)
    lines = [f"30 20 0:26 {mount}" for mount in mounts]
    put(root, proc__self__mountinfo="\n".join(["21 1 8:1 / / rw - ext4 x rw", *lines]))


V2 = "/ /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"


def free(root: Path) -> Free:
    found = free_memory(root)
    assert found is not None
    return found


def test_without_a_limit_it_is_what_the_machine_has(tmp_path: Path) -> None:
    assert free(tmp_path) == Free(8 * GIB, "the machine")


def test_free_swap_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    swap = SimpleNamespace(free=2 * GIB)
    monkeypatch.setattr("psutil.swap_memory", lambda: swap)
    assert free(tmp_path).amount == 10 * GIB


def test_the_limit_of_a_cgroup_of_version_2(tmp_path: Path) -> None:
    mount(tmp_path, "0::/ci/job.scope\n", V2)
    stat = f"anon 5\ninactive_file {GIB // 2}\nactive_file {GIB // 2}\nshmem 7"
    group(
        tmp_path,
        "sys/fs/cgroup/ci/job.scope",
        memory_max=4 * GIB,
        memory_current=3 * GIB,
        memory_stat=stat,
    )
    assert free(tmp_path) == Free(2 * GIB, "the cgroup's memory.max")


def test_swap_that_a_cgroup_may_use_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("psutil.swap_memory", lambda: SimpleNamespace(free=3 * GIB))
    mount(tmp_path, "0::/job\n", V2)
    folder = "sys/fs/cgroup/job"
    group(tmp_path, folder, memory_max=2 * GIB, memory_current=GIB)
    assert free(tmp_path).amount == 4 * GIB
    tmp_path.joinpath(folder, "memory.swap.max").write_text(str(GIB))
    assert free(tmp_path).amount == 2 * GIB


def test_a_parent_s_limit_may_be_narrower(tmp_path: Path) -> None:
    mount(tmp_path, "0::/ci/job\n", V2)
    group(tmp_path, "sys/fs/cgroup/ci/job", memory_max="max", memory_current=GIB)
    group(tmp_path, "sys/fs/cgroup/ci", memory_max=3 * GIB, memory_current=2 * GIB)
    assert free(tmp_path).amount == GIB


def test_in_a_container_the_mounted_folder_is_its_own(tmp_path: Path) -> None:
    mounted = V2.replace("/ /sys", "/docker/abc /sys")
    mount(tmp_path, "0::/docker/abc\n", mounted)
    group(tmp_path, "sys/fs/cgroup", memory_max=2 * GIB, memory_current=GIB)
    assert free(tmp_path).amount == GIB


@pytest.mark.parametrize("path", ["/../other", "/elsewhere"])
def test_a_path_outside_of_the_container_is_not_followed(
    tmp_path: Path, path: str
) -> None:
    mount(tmp_path, f"0::{path}\n", V2.replace("/ /sys", "/docker/abc /sys"))
    group(tmp_path, "sys/fs/cgroup", memory_max=2 * GIB, memory_current=GIB)
    assert free(tmp_path).amount == GIB


def test_the_limit_of_a_cgroup_of_version_1(tmp_path: Path) -> None:
    v1 = "/ /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"
    mount(tmp_path, "9:cpu:/x\n4:memory:/ci/job\n0::/\n", v1, V2)
    group(
        tmp_path,
        "sys/fs/cgroup/memory/ci/job",
        memory_limit_in_bytes=4 * GIB,
        memory_usage_in_bytes=3 * GIB,
        memory_stat=f"inactive_file 1\ntotal_inactive_file {GIB}\ntotal_rss 5",
    )
    group(
        tmp_path,
        "sys/fs/cgroup/memory",
        memory_limit_in_bytes=V1_UNLIMITED,
        memory_usage_in_bytes=7 * GIB,
    )
    assert free(tmp_path) == Free(2 * GIB, "the cgroup's memory.limit_in_bytes")


def test_in_version_1_memory_and_swap_have_a_limit_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("psutil.swap_memory", lambda: SimpleNamespace(free=8 * GIB))
    v1 = "/ /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"
    mount(tmp_path, "4:memory:/job\n", v1)
    folder = tmp_path / "sys/fs/cgroup/memory/job"
    group(tmp_path, "sys/fs/cgroup/memory/job", memory_limit_in_bytes=2 * GIB)
    folder.joinpath("memory.usage_in_bytes").write_text(str(GIB))
    assert free(tmp_path).amount == 9 * GIB
    folder.joinpath("memory.memsw.limit_in_bytes").write_text(str(3 * GIB))
    folder.joinpath("memory.memsw.usage_in_bytes").write_text(str(GIB))
    assert free(tmp_path).amount == 2 * GIB


def test_a_mount_point_with_a_space(tmp_path: Path) -> None:
    mount(tmp_path, "0::/job\n", V2.replace("/sys/fs/cgroup", "/my\\040groups"))
    group(tmp_path, "my groups/job", memory_max=2 * GIB, memory_current=GIB)
    assert free(tmp_path).amount == GIB


@pytest.mark.parametrize("text", ["", "nonsense", "0::", "::::\n0:0:0\n"])
def test_nonsense_in_proc_is_no_limit(tmp_path: Path, text: str) -> None:
    put(tmp_path, proc__self__cgroup=text, proc__self__mountinfo=f"{text} - cgroup2\n")
    assert free(tmp_path).limit == "the machine"


def test_a_limit_of_address_space_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = {"RLIMIT_AS": 2**50, "RLIMIT_NOFILE": 1_000_000}
    monkeypatch.setattr(room, "_soft_limit", limits.get)
    memory, addresses = memory_rooms(tmp_path)
    in_use = addresses.read()
    assert in_use is not None and in_use > (memory.read() or 0) > 0
    assert addresses.free() == Free(2**50 - in_use, "RLIMIT_AS")


def test_limits_that_the_kernel_does_not_enforce_do_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "_soft_limit", {"RLIMIT_RSS": 1, "RLIMIT_NPROC": 1}.get)
    mount(tmp_path, "0::/job\n", V2)
    group(tmp_path, "sys/fs/cgroup/job", memory_high=GIB, memory_current=GIB)
    assert free(tmp_path) == Free(8 * GIB, "the machine")
    assert thread_room(lambda: 10, tmp_path) is None


def test_figures_of_swap_that_psutil_warns_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def swap_memory() -> SimpleNamespace:
        warnings.warn("no figures", RuntimeWarning, stacklevel=1)
        return SimpleNamespace(free=GIB)

    monkeypatch.setattr("psutil.swap_memory", swap_memory)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert free(tmp_path).amount == 9 * GIB


def test_descriptors_are_counted_by_the_lowest_free_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert descriptor_room() is None
    monkeypatch.setattr(room, "_soft_limit", {"RLIMIT_NOFILE": 5_000}.get)
    found = descriptor_room()
    assert found is not None
    before = found.read()
    opened = [os.dup(0) for _ in range(5)]  # they fill holes in the table, if any
    try:
        assert opened[0] == before
        now = found.read()
        assert now is not None and now > opened[-1]
        assert found.free() == Free(5_000 - now, "RLIMIT_NOFILE")
    finally:
        for descriptor in opened:
            os.close(descriptor)


def test_threads_are_limited_by_cgroup(tmp_path: Path) -> None:
    assert thread_room(lambda: 10, tmp_path) is None
    mount(tmp_path, "0::/job\n", V2)
    group(tmp_path, "sys/fs/cgroup/job")
    tmp_path.joinpath("sys/fs/cgroup/job/pids.max").write_text("100")
    tmp_path.joinpath("sys/fs/cgroup/job/pids.current").write_text("40")
    found = thread_room(lambda: 10, tmp_path)
    assert found is not None and found.read() == 10
    assert found.free() == Free(60, "the cgroup's pids.max")


def test_memory_that_was_swapped_out_is_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    text = b"Name:\tx\nVmSwap:\t 300 kB\nRssAnon:\t 200 kB\nRssShmem:\t  50 kB\n"
    monkeypatch.setattr(room, "_read", lambda _: b"\n" + text)
    assert make_memory_reader(SWAPPED)() == 550 * 1024


def test_without_the_kernel_s_figures_psutil_reads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(room, "_read", lambda _: b"")
    assert (make_memory_reader()() or 0) > 2**20


def test_without_the_module_of_limits_there_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "resource", None)
    assert descriptor_room() is None
    assert memory_rooms()[0].resource == "memory"
