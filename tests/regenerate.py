"""A switch to rewrite the files that tests compare texts with.

``TFLEAK_REGENERATE=1 pytest tests`` rewrites the gold files, and the generated parts
and outputs of the README and of ``docs/``. Then read the diff.
"""

from __future__ import annotations

import os
from pathlib import Path

REGENERATE = bool(os.environ.get("TFLEAK_REGENERATE"))


def expected_text(path: Path, text: str) -> str:
    """Return the content of a file; with the switch on, write the text there first."""
    if REGENERATE:
        path.write_text(text, encoding="utf-8")
    if not path.exists():
        test = os.environ["PYTEST_CURRENT_TEST"].partition("::")[0]
        raise AssertionError(
            f"{path} is missing: run TFLEAK_REGENERATE=1 python -m pytest {test}"
        )
    return path.read_text(encoding="utf-8")
