"""Find an expression that leads to a container, such as ``service.REGISTRY``.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from pytest_tfleak.diagnosis.holder.path import describe_path
from pytest_tfleak.diagnosis.holder.search import Paths
from pytest_tfleak.reports.held_by import name_holder
from pytest_tfleak.run.budget import Deadline


def expressions_for(
    containers: Sequence[Any], handed: Mapping[str, object], deadline: Deadline
) -> list[str | None]:
    """Return an expression for each container, None if nothing leads to it."""
    paths = Paths(handed, deadline)
    paths.find(containers)
    return [_expression_of(paths.path_to(container)) for container in containers]


def _expression_of(chain: list[Any]) -> str | None:
    return name_holder(describe_path(chain, new=())) if chain else None
