"""Where the documentation explains a cause.

The address is that of the installed package, which its owner fills in once, in
pyproject.toml. Until then nothing links anywhere.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError
from importlib.metadata import metadata

_PACKAGE = "pytest-tfleak"
_UNKNOWN = "OWNER"  # stands for what is to be filled in


def cause_page(slug: str | None) -> str | None:
    """Return the address of the page on a cause, None if there is none."""
    site = site_of_docs()
    return f"{site}/causes/{slug}.html" if site and slug else None


@cache
def site_of_docs() -> str | None:
    """Return the address of the documentation, None if the package names none."""
    try:
        urls = metadata(_PACKAGE).get_all("Project-URL") or []
    except PackageNotFoundError:  # the package is used without being installed
        return None
    named = (url.partition(", ") for url in urls)
    site = next((url for name, _, url in named if name == "Documentation"), None)
    return None if site is None or _UNKNOWN in site else site.rstrip("/")
