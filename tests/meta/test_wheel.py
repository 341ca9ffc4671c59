"""What gets installed: the metadata and the files."""

from __future__ import annotations

import json
import re
from importlib.metadata import Distribution
from importlib.metadata import distribution
from importlib.metadata import entry_points
from pathlib import Path
from pathlib import PurePosixPath

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed() -> Distribution:
    return distribution("pytest-tfleak")


@pytest.fixture(scope="module")
def files(installed: Distribution) -> list[PurePosixPath]:
    direct = installed.read_text("direct_url.json")
    if direct and json.loads(direct).get("dir_info", {}).get("editable"):
        pytest.skip("installed in editable mode: the files are those of the checkout")
    return [
        PurePosixPath(file)
        for file in installed.files or ()
        if "__pycache__" not in file.parts
    ]


def requirements(installed: Distribution, extra: str) -> set[str]:
    """Return the names of an extra's requirements, "" for those always required."""
    required = map(Requirement, installed.requires or ())
    return {
        str(one.name)
        for one in required
        if one.marker is None or one.marker.evaluate({"extra": extra})
    }


def test_tensorflow_is_not_required(installed: Distribution) -> None:
    assert requirements(installed, "") == {
        "jinja2",
        "nvidia-ml-py",
        "psutil",
        "pytest",
    }


@pytest.mark.parametrize(
    ("extra", "brings"),
    [
        ("tensorflow", "tensorflow"),
        ("tensorflow-cpu", "tensorflow-cpu"),
        ("gpu", "tensorflow"),
    ],
)
def test_an_extra_brings_tensorflow(
    installed: Distribution, extra: str, brings: str
) -> None:
    assert requirements(installed, extra) - requirements(installed, "") == {brings}


def test_the_plugin_is_an_entry_point() -> None:
    (entry,) = entry_points(group="pytest11", name="tfleak")
    assert entry.value == "pytest_tfleak.plugin"


def test_the_plugin_is_loaded_through_the_entry_point(
    pytestconfig: pytest.Config,
) -> None:
    plugin = pytestconfig.pluginmanager.get_plugin("tfleak")
    assert plugin is not None
    assert plugin.__name__ == "pytest_tfleak.plugin"


def test_types_and_licence_are_shipped(files: list[PurePosixPath]) -> None:
    assert PurePosixPath("pytest_tfleak/py.typed") in files
    assert any(file.name == "LICENSE" for file in files)


@pytest.mark.parametrize(
    "name",
    [
        "schema/report-1.json",
        "templates/page.css",
        "templates/page.html",
        "templates/page.js",
        "templates/row.html",
        "templates/test.html",
    ],
)
def test_what_reports_are_made_with_is_shipped(
    files: list[PurePosixPath], name: str
) -> None:
    assert PurePosixPath("pytest_tfleak/reports", name) in files


@pytest.mark.usefixtures("files")
def test_the_readme_of_the_package_index_leads_to_the_repository(
    installed: Distribution,
) -> None:
    urls = (
        url.partition(", ") for url in installed.metadata.get_all("Project-URL", [])
    )
    (source,) = (url for name, _, url in urls if name == "Source")
    text = str(installed.metadata.json["description"])
    links = re.findall(r"\]\(([^)#]+)", text)
    assert f"{source}/blob/main/docs/get-started.md" in links
    assert all(link.startswith("https://") for link in links)


def test_nothing_but_the_package_is_shipped(files: list[PurePosixPath]) -> None:
    tops = {file.parts[0] for file in files}
    (metadata,) = tops - {"pytest_tfleak"}
    assert metadata.endswith(".dist-info")
    assert not [file for file in files if file.name.startswith(("test_", "conftest"))]


def test_the_installed_package_is_that_of_the_checkout(
    installed: Distribution, files: list[PurePosixPath]
) -> None:
    """Tests in this process import the checkout, subprocesses the installed package."""
    if not (ROOT / "pytest_tfleak").is_dir():
        pytest.skip("the source is not here: this is the wheel's own test")
    shipped = {
        str(file): Path(str(installed.locate_file(str(file)))).read_bytes()
        for file in files
        if file.parts[0] == "pytest_tfleak"
    }
    here = {
        path.relative_to(ROOT).as_posix(): path.read_bytes()
        for path in (ROOT / "pytest_tfleak").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    changed = {name for name in here | shipped if here.get(name) != shipped.get(name)}
    assert not changed, "install the package again: pip install ."
