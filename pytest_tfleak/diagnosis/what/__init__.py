"""Read what the objects that pile up are, as values."""

from __future__ import annotations
