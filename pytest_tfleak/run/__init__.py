"""Call the body again and again, and clean up after it."""

from __future__ import annotations
