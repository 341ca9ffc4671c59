"""Settings of the documentation site: ``sphinx-build -W -n docs FOLDER`` builds it."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_ROOT = Path(__file__).parents[1]
_PROJECT = tomllib.loads((_ROOT / "pyproject.toml").read_text("utf-8"))["project"]
_SOURCE = _PROJECT["urls"]["Source"]

project = _PROJECT["name"]
author = copyright = _PROJECT["authors"][0]["name"]  # noqa: A001 - Sphinx's name
extensions = ["myst_parser"]
html_theme = "furo"
html_title = project
exclude_patterns = ["_build"]
myst_heading_anchors = 3
# Python 3.11's syntax in an example is no mistake of the page
suppress_warnings = ["misc.highlighting_failure"]

_LINK = re.compile(r"\]\((?P<path>(?:\.\./)+[^)#]+)(?P<heading>[^)]*)\)")
_FORMS = ".github/ISSUE_TEMPLATE/"


def setup(app: Sphinx) -> None:
    """Let links from a page to a file of the repository work on the site, too."""
    app.connect("source-read", _link_to_repository)


def _link_to_repository(app: Sphinx, page: str, source: list[str]) -> None:
    folder = Path(app.srcdir, page).parent

    def linked(match: re.Match[str]) -> str:
        path = (folder / match["path"]).resolve()
        if path.is_relative_to(app.srcdir):
            return match[0]
        name = path.relative_to(_ROOT).as_posix()
        if name.startswith(_FORMS):
            form = name.removeprefix(_FORMS)
            return f"]({_SOURCE}/issues/new?template={form})"
        return f"]({_SOURCE}/blob/main/{name}{match['heading']})"

    source[0] = _LINK.sub(linked, source[0])
