"""Write the document as JSON, one line for each test; ``schema/`` describes it.

Within one schema number, keys may only be added, and readers must ignore unknown ones.
To change or remove a key, use a new number.
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any


def render(document: dict[str, Any]) -> str:
    """Return the text of the file. Raises ValueError for NaN and infinity."""
    head = {key: value for key, value in document.items() if key != "tests"}
    lines = [f'"{key}": {compact(value)}' for key, value in head.items()]
    tests = ",\n".join(compact(test) for test in document["tests"])
    return "{\n" + ",\n".join([*lines, f'"tests": [\n{tests}\n]']) + "\n}\n"


def compact(value: Any) -> str:
    """Return JSON on one line, in ASCII."""
    return json.dumps(value, allow_nan=False, separators=(",", ":"))


def read_schema(number: int = 1) -> dict[str, Any]:
    """Return the JSON Schema of a document with this schema number."""
    path = files("pytest_tfleak.reports") / "schema" / f"report-{number}.json"
    schema: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return schema
