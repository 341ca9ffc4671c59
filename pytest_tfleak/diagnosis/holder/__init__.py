"""Find what holds an object: the path from a GC root to it."""

from __future__ import annotations
