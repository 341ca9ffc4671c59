from __future__ import annotations

import sys
from types import ModuleType

import pytest

from pytest_tfleak.tf import names
from pytest_tfleak.tf.names import Field
from pytest_tfleak.tf.names import MissingNameError
from pytest_tfleak.tf.names import Name
from pytest_tfleak.tf.names import Place

NEW = Place(library="box", module="box.new", attributes=("Lid", "open"), since=(2, 1))
OLD = Place(library="box", module="box.old", attributes=("lift",), before=(2, 1))
LID = Name(places=(NEW, OLD), use="box.lids", example="it")


@pytest.fixture
def box(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    """Return the modules of a library that is imported."""
    modules = {name: ModuleType(name) for name in ("box", "box.new", "box.old")}
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    vars(modules["box"])["__version__"] = "2.1.0-rc1"
    return modules


def test_a_name_is_looked_up_when_it_is_needed(box: dict[str, ModuleType]) -> None:
    assert LID.find() is None
    vars(box["box.old"])["lift"] = "old"
    assert (LID.get(), LID.find(), LID.owner()) == ("old", "old", box["box.old"])
    lid = vars(box["box.new"])["Lid"] = type("Lid", (), {"open": "new"})
    assert (LID.get(), LID.find(), LID.owner()) == ("new", "new", lid)
    assert LID.find_all() == ["new", "old"]


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    for look_up in (LID.get, LID.owner):
        with pytest.raises(MissingNameError, match=r"there is no box\.new\.Lid\.open"):
            look_up()
    assert issubclass(MissingNameError, AttributeError)


def is_missing() -> bool:
    return LID.is_missing({"box": names.version_of("box")})


def test_nothing_is_missing_of_a_library_that_is_not_imported() -> None:
    assert not is_missing()


def test_a_name_is_missing_where_no_place_of_the_version_has_it(
    box: dict[str, ModuleType],
) -> None:
    assert is_missing()
    vars(box["box.old"])["lift"] = "of older versions"
    assert is_missing()
    vars(box["box.new"])["Lid"] = type("Lid", (), {"open": "new"})
    assert not is_missing()
    vars(box["box"])["__version__"] = "2.0"
    assert not is_missing()


@pytest.mark.parametrize(
    ("version", "library", "expected"),
    [
        ("3.15.1", "keras", (3, 15, 1)),
        ("3.15.1", "keras 2", None),
        ("2.15.0", "keras", None),
        ("2.15.0", "keras 2", (2, 15, 0)),
    ],
)
def test_keras_2_is_not_keras_3(
    monkeypatch: pytest.MonkeyPatch,
    version: str,
    library: str,
    expected: tuple[int, ...] | None,
) -> None:
    keras = ModuleType("keras")
    vars(keras)["__version__"] = version
    monkeypatch.setitem(sys.modules, "keras", keras)
    assert names.version_of(library) == expected


@pytest.mark.parametrize("instead", [None, object(), ModuleType("keras")])
def test_a_stand_in_for_a_library_has_no_version(
    monkeypatch: pytest.MonkeyPatch, instead: object
) -> None:
    monkeypatch.setitem(sys.modules, "keras", instead)
    assert names.version_of("keras") is None


def test_a_field_is_text_that_reads_an_attribute() -> None:
    field = Field("real", use="numbers", example="(1).real")
    assert field == "real"
    assert field.of(1) == 1
    with pytest.raises(MissingNameError, match="str has no real"):
        field.of("text")


@pytest.mark.parametrize(("version", "is_lacked"), [("2.13.1", True), ("2.14", False)])
def test_a_field_is_missing_where_tensorflow_is_too_old_for_it(
    monkeypatch: pytest.MonkeyPatch, version: str, is_lacked: bool
) -> None:
    module = ModuleType("tensorflow")
    vars(module)["__version__"] = version
    monkeypatch.setitem(sys.modules, "tensorflow", module)
    assert (names.FUNCTION_CACHE in names.missing()) is is_lacked


def test_each_place_is_named_once() -> None:
    places = [place for name in names.all_names().values() for place in name.places]
    assert len(places) == len(set(places))


def test_each_row_says_what_goes_without_it_and_how_it_shows() -> None:
    assert all(name.use and name.example for name in names.all_names().values())
    assert all(field.use and field.example for field in names.all_fields().values())
