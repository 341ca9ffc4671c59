"""Find the objects that more iterations leave, and group those that belong together."""

from __future__ import annotations
