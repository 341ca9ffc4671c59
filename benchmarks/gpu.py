"""Measure what settling costs per iteration, and what the driver answers how fast.

Prints one line for each figure. Without a GPU, only CPU:0 is measured, which has the
same allocator. Each way to manage memory needs a process of its own:

    python benchmarks/gpu.py                                   # CPU:0, or GPU, as it is
    TF_FORCE_GPU_ALLOW_GROWTH=true python benchmarks/gpu.py
    TF_GPU_ALLOCATOR=cuda_malloc_async python benchmarks/gpu.py
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from array import array
from collections.abc import Callable

import tensorflow as tf

from pytest_tfleak.probes.allocator import AllocatorProbe
from pytest_tfleak.probes.gpu import driver
from pytest_tfleak.probes.gpu.nvml import NvmlProbe

SIDE = 512


def cost(call: Callable[[], object], times: int = 500) -> str:
    """Return median and 99th percentile of a call's time, in microseconds."""
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    seconds.sort()
    median, high = statistics.median(seconds), seconds[int(times * 0.99)]
    return f"{median * 1e6:.1f} us (99 %: {high * 1e6:.1f} us)"


def print_machine() -> None:
    """Print the machine and the versions that the figures are for."""
    print(f"TensorFlow {tf.__version__}, Python {platform.python_version()}")
    for card in tf.config.list_physical_devices("GPU"):
        details = tf.config.experimental.get_device_details(card)
        print(f"{card.name}: {details.get('device_name', 'unknown')}")
    for name in ("TF_GPU_ALLOCATOR", "TF_FORCE_GPU_ALLOW_GROWTH"):
        print(f"{name}={os.environ.get(name, '')}")


def measure_settling() -> None:
    """Print what the allocator probe costs per iteration."""
    probe = AllocatorProbe()
    buffer = array("q", [0]) * len(probe.signals())
    print("settle, nothing pending:", cost(probe.settle))
    print("read:", cost(lambda: probe.read(buffer, 0, False)))
    print("sync_devices alone:", cost(tf.test.experimental.sync_devices))
    tf.config.experimental.set_synchronous_execution(False)
    # now the probe waits for CPU:0, too, as it always does for a GPU
    print("settle, asynchronous, nothing pending:", cost(probe.settle))
    tf.config.experimental.set_synchronous_execution(True)


def measure_rounding() -> None:
    """Print what the allocator counts for sizes around its steps."""
    gpu = "GPU:0" if tf.config.list_logical_devices("GPU") else "CPU:0"
    info = tf.config.experimental.get_memory_info
    with tf.device(gpu):
        for count in (1, 64, 65, 65_536, 90_000, 250_000, 1_000_000):
            before = info(gpu)["current"]
            kept = tf.zeros([count])
            tf.test.experimental.sync_devices()
            charged = info(gpu)["current"] - before
            print(f"{gpu}: {4 * count} B asked for, {charged} B charged")
            del kept


def measure_driver() -> None:
    """Print what NVML costs and returns for each card that TensorFlow uses."""
    probe = NvmlProbe()
    started = time.perf_counter()
    signals = probe.signals()
    print(f"first question: {(time.perf_counter() - started) * 1e3:.1f} ms")
    buffer = array("q", [0]) * len(signals)
    print("read, process and card:", cost(lambda: probe.read(buffer, 0, True), 200))
    for signal, value in zip(signals, buffer, strict=True):
        print(f"{signal.name}: {value} {probe.reasons().get(signal.name, '')}")
    card = driver.find_card(0)
    before = driver.device_bytes(card)
    with tf.device("GPU:0"):
        kept = tf.zeros([SIDE * SIDE * 64])
    tf.test.experimental.sync_devices()
    after = driver.device_bytes(card)
    print(f"card: {after - before} B more for a tensor of {SIDE * SIDE * 256} B")
    del kept
    tf.test.experimental.sync_devices()
    print(f"card: {driver.device_bytes(card) - after} B after it is dropped")


def main() -> None:
    """Measure the devices of this machine."""
    tf.ones([SIDE, SIDE])  # the first operation starts the devices
    print_machine()
    measure_settling()
    measure_rounding()
    if tf.config.list_logical_devices("GPU"):
        measure_driver()
    else:
        print(f"no GPU: {driver.why_no_gpu()}")


if __name__ == "__main__":
    main()
