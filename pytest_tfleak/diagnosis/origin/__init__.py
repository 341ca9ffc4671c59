"""Find the line of user code that makes the objects that pile up."""

from __future__ import annotations
