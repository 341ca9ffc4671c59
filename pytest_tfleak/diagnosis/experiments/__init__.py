"""Run the body with one thing changed, to see whether the growth stops."""

from __future__ import annotations
