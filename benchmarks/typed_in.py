"""Type the remedies that were printed into the leaking variants of cases.

    python benchmarks/typed_in.py DIR --out NEW [--table FILE]
    python benchmarks/corpus.py NEW --isolated --only=-leaky

``DIR/typed_in.json``, or ``FILE``, has, by the name of a case, the remedy as it was
printed and what typing it in changes: pairs of text, each of which is in the file once.
The cases are written to ``NEW`` with the status "fixed", so that corpus.py expects them
to be clean. A file without ``META`` is a plain test, for pytest itself.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

_STATUS = re.compile(r"""(?<=status=)(["'])leaks today.*?\1""")


def main() -> None:
    """Write the changed cases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--table", type=Path, metavar="FILE")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    table_file = options.table or options.folder / "typed_in.json"
    table = json.loads(table_file.read_text("utf-8"))
    for name, entry in table.items():
        if entry["changes"]:
            source = (options.folder / f"{name}.py").read_text("utf-8")
            changed = type_in(source, entry["changes"], name)
            (options.out / f"{name}.py").write_text(changed, "utf-8")


def type_in(source: str, changes: list[list[str]], name: str) -> str:
    """Return the source of a case with the changes made."""
    status = _STATUS.search(source)
    if status is not None:
        changes = [*changes, [f"status={status[0]}", 'status="fixed"']]
    elif "META" in source:
        sys.exit(f"{name}: does not leak today")
    for old, new in changes:
        if source.count(old) != 1:
            sys.exit(f"{name}: in the file {source.count(old)} times: {old}")
        source = source.replace(old, new)
    return source


if __name__ == "__main__":
    main()
