"""An open file is known by the line that names it, if there is only one such line."""

from __future__ import annotations

import gc
import io
import sys
import tempfile
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from contextlib import suppress
from pathlib import Path
from typing import Any
from typing import TextIO

import pytest

from pytest_tfleak.diagnosis.origin.naming import naming_of

Opens = Callable[[Path], object]

LISTED: list[Any] = []
TWICE: list[Any] = []
BY_NAME: dict[str, Any] = {}


class Reports:
    shared: list[Any] = []  # noqa: RUF012 - one for all, as users write it

    def __init__(self) -> None:
        self.named: dict[str, Any] = {}

    def open(self, path: Path) -> None:
        self.file = path.open("w")  # an attribute

    def add(self, path: Path) -> None:
        self.named["report"] = path.open("w")  # an item

    def share(self, path: Path) -> None:
        Reports.shared.append(path.open("w"))  # of a class


REPORTS = Reports()


def fail() -> None:
    raise ValueError


def local(path: Path) -> None:
    file = path.open("w")  # a variable
    fail()
    file.close()


def temporary(path: Path) -> None:
    make = tempfile.NamedTemporaryFile
    temp = make("w", dir=path.parent, delete=False)  # a temporary file
    Path(temp.name).rename(path)
    fail()
    temp.close()


def in_a_list(path: Path) -> None:
    LISTED.append(path.open("w"))  # in a list


def in_a_dict(path: Path) -> None:
    BY_NAME["x"] = path.open("w")  # in a dict


def in_a_comprehension(path: Path) -> None:
    every = [one.open("w") for one in (path,)]  # in a comprehension
    fail()
    every.clear()


@contextmanager
def report(path: Path) -> Iterator[None]:
    text = path.open("w")  # of a generator
    yield
    text.close()


def suspended(path: Path) -> object:
    manager = report(path)
    manager.__enter__()
    return manager


def set_twice(path: Path) -> None:
    out: TextIO | None = None
    out = path.open("w")
    fail()
    out.close()


def handed_in(path: Path) -> None:
    def use(handed: TextIO) -> None:
        fail()
        handed.close()

    use(path.open("w"))


def in_a_list_of_two_lines(path: Path) -> None:
    TWICE.append(path.open("w"))
    TWICE.append(None)


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="needs /proc to list descriptors"
)
@pytest.mark.parametrize(
    ("opens", "name", "comment"),
    [
        (local, "file", "# a variable"),
        (temporary, "temp", "# a temporary file"),
        (suspended, "text", "# of a generator"),
        (REPORTS.open, "file", "# an attribute"),
        (REPORTS.add, "named", "# an item"),
        (Reports().share, "shared", "# of a class"),
        (in_a_list, "LISTED", "# in a list"),
        (in_a_dict, "BY_NAME", "# in a dict"),
        (in_a_comprehension, "every", "# in a comprehension"),
        (set_twice, None, ""),
        (handed_in, None, ""),
        (in_a_list_of_two_lines, None, ""),
    ],
)
def test_the_line_that_names_a_file(
    tmp_path: Path, opens: Opens, name: str | None, comment: str
) -> None:
    path = tmp_path / "report"
    kept: Any = None
    try:
        kept = opens(path)
    except ValueError as error:
        kept = error
    naming = naming_of(opened(path))
    if name is None:
        assert naming is None
    else:
        assert naming is not None
        assert (naming.name, naming.adds) == (name, name in ADDED_TO)
        assert naming.line == (__file__, line_of(comment))
    opened(path).close()
    del kept


ADDED_TO = ("named", "shared", "LISTED", "BY_NAME", "every")


def opened(path: Path) -> Any:
    """Return what owns the descriptor of a file."""
    number = next(
        int(link.name)
        for link in Path("/proc/self/fd").iterdir()
        if link.readlink() == path
    )
    for candidate in gc.get_objects():
        if type(candidate) is io.FileIO:  # isinstance() would run code of objects
            with suppress(ValueError):
                if candidate.fileno() == number:
                    return candidate
    raise LookupError(path)


def line_of(comment: str) -> int:
    lines = Path(__file__).read_text("utf-8").splitlines()
    (number,) = (n for n, line in enumerate(lines, 1) if line.endswith(comment))
    return number
