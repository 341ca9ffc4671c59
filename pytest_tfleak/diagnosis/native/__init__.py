"""Find the C++ functions that allocate memory which no Python object explains."""

from __future__ import annotations
