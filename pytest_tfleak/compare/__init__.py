"""Compare the findings of a run with those of an earlier one."""

from __future__ import annotations
