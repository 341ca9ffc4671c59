"""Settings of the documentation site: ``sphinx-build -W -n docs FOLDER`` builds it."""

from __future__ import annotations

import sys
from pathlib import Path

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
html_static_path = ["_static"]
html_css_files = ["series.css"]
exclude_patterns = ["_build"]
#: ``repo:PATH`` links to a file of the repository that is no page of the site.
myst_url_schemes = {
    **dict.fromkeys(("http", "https", "mailto")),
    "repo": f"{_SOURCE}/blob/main/{{{{path}}}}",
}
myst_heading_anchors = 3
# Python 3.11's syntax in an example is no mistake of the page
suppress_warnings = ["misc.highlighting_failure"]
