"""A dataset is replaced by itself plus one more, so the chain grows with each episode.

tensorflow/tensorflow#59746: ``data = data.concatenate(next)`` in a loop nests a dataset
in a dataset in a dataset, until the process is killed.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import tensorflow as tf

META = dict[str, str](
    status="leaks today",
    source="tensorflow/tensorflow#59746",
    kind="_ConcatenateDataset",
    also="_TensorSliceDataset, EagerTensor",
    holder="state.data, then _input_dataset of each link",
    made_at="made here",
    stored_at="stored here",
    fix="keep the last episodes in a bounded deque and make a dataset of those.",
)

EPISODE = np.ones([64, 64], "float32")


class Replay:
    """What the agent has seen."""

    def __init__(self) -> None:
        self.data: Any = tf.data.Dataset.from_tensor_slices(EPISODE)
        self.recent: deque[Any] = deque(maxlen=4)


def setup() -> Replay:
    """Make the replay memory that all episodes go to."""
    return Replay()


def leaky(replay: Replay) -> None:
    """Append the episode to all that came before."""
    episode = tf.data.Dataset.from_tensor_slices(EPISODE)  # made here
    longer = replay.data.concatenate(episode)  # made here
    replay.data = longer  # stored here


def clean(replay: Replay) -> None:
    """Keep the last four episodes."""
    replay.recent.append(tf.data.Dataset.from_tensor_slices(EPISODE))
