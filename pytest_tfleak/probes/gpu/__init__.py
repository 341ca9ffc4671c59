"""Read GPU memory through the NVIDIA driver."""

from __future__ import annotations
