"""What is known of one leak: the finding, the evidence, and the names in the code.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from dataclasses import dataclass

from pytest_tfleak.diagnosis.causes.cause import Evidence
from pytest_tfleak.diagnosis.causes.resources import find_opened
from pytest_tfleak.diagnosis.origin.source_hints import Names
from pytest_tfleak.diagnosis.origin.source_hints import names_at
from pytest_tfleak.retaining_path import RetainingPath
from pytest_tfleak.retaining_path import Step
from pytest_tfleak.user_code import file_of_module
from pytest_tfleak.verdict import Finding


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is known of one leak."""

    finding: Finding
    evidence: Evidence
    declared: str = ""  # the decorator of a tf.function, with its signature

    @property
    def path(self) -> RetainingPath | None:
        """Return the path that the message shows."""
        return self.finding.path

    @property
    def steps(self) -> tuple[Step, ...]:
        """Return the steps of that path."""
        return self.path.steps if self.path is not None else ()

    @property
    def put_away(self) -> Step | None:
        """Return the outermost object on the path that each iteration makes."""
        return next((step for step in self.steps if step.is_new), None)

    @property
    def stored(self) -> Names:
        """Return the names at the line that stores it, or else that makes it."""
        return names_at(self.finding.line)

    @property
    def made(self) -> Names:
        """Return the names at the line that makes it."""
        return names_at(self.finding.origin)

    @property
    def object(self) -> str:
        """Return how the code calls the object that is put away, "" without a name."""
        handed = names_at(self.finding.stored).argument
        if handed not in ("", "self", "cls"):
            return handed
        opened = find_opened(self.path)
        if opened is None:
            return self.made.made
        if not opened.is_put_away_itself:
            return ""
        # what an argument makes is of another type
        is_its_type = self.put_away is not None and self.made.makes(self.put_away)
        return self.made.target if is_its_type else self.made.made

    @property
    def files(self) -> list[str]:
        """Return the files of user code that have to do with the leak."""
        modules = {step.type.rpartition(".")[0] for step in self.steps}
        modules.add(self.path.root.name if self.path is not None else "")
        files = [line.file for line in self.finding.lines]
        return [*files, *filter(None, map(file_of_module, modules))]

    def is_put_away(self, *types: str) -> bool:
        """Return whether an object of one of these types is put away, not its owner."""
        return self.put_away is not None and self.put_away.is_a(*types)

    def name_of_result(self, *calls: str) -> str:
        """Return the name that the code gives to what one of these calls returns."""
        for names in (self.stored, self.made):
            if names.call.rpartition(".")[2] in calls:
                return names.target
        return ""


def give_name(name: str) -> str:
    """Return the words that come before code for an object without a name."""
    return f"give it a name, such as `{name}`, and "
