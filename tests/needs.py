"""Marks that skip a test where something that it needs is missing.

They look for a package without importing it: TensorFlow makes hundreds of thousands of
objects, and each later test of the process that looks at all objects takes ten times as
long.
"""

from __future__ import annotations

from importlib.util import find_spec

import pytest

needs_tensorflow = pytest.mark.skipif(
    find_spec("tensorflow") is None, reason="TensorFlow is not installed"
)
