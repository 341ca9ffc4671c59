"""Take away what TensorFlow keeps of each dataset, and of each iterator over one.

Where a dataset ends, an error of C++ leaves a rendezvous behind that is never freed; a
dataset that is tuned leaves a model in the metrics; for more see ``made_once``.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import re
from typing import Any

from pytest_tfleak.diagnosis.made_once import cached
from pytest_tfleak.diagnosis.made_once import traced_once
from pytest_tfleak.diagnosis.neutraliser import Neutraliser
from pytest_tfleak.diagnosis.neutraliser import module_of_tensorflow

#: Modules of operations, and the names of those that make a dataset.
_OPERATIONS = ("ops.gen_dataset_ops", "ops.gen_experimental_dataset_ops")
_MAKES = re.compile(r"(?!(initialize|reduce|register|save)_)[a-z]\w*dataset(_v\d)?")


class QuietIterators(Neutraliser):
    """Find the end of a dataset without an error of C++, tune nothing, make once."""

    name = "quiet-iterators"
    words = "with datasets made once, not tuned, and ended without an error"

    def __enter__(self) -> Neutraliser:
        iterators = module_of_tensorflow("data.ops.iterator_ops")
        iterator_type = iterators.OwnedIterator
        create = iterator_type.__dict__["_create_iterator"]
        untuned = module_of_tensorflow("data.ops.options").Options()
        untuned.autotune.enabled = False

        def create_iterator(iterator: Any, dataset: Any) -> None:
            self.seen += 1
            if self.acts and module_of_tensorflow("eager.context").executing_eagerly():
                dataset = dataset.with_options(untuned)
            create(iterator, dataset)

        self._replace(iterator_type, "_create_iterator", create_iterator)
        if self.acts:
            following = _following(iterator_type.__dict__["_next_internal"])
            self._replace(iterator_type, "_next_internal", following)
            functions = module_of_tensorflow("data.ops.structured_function")
            once = traced_once(functions.StructuredFunctionWrapper)
            self._replace(functions, "StructuredFunctionWrapper", once)
            for operations in map(module_of_tensorflow, _OPERATIONS):
                for name, operation in list(vars(operations).items()):
                    if _MAKES.fullmatch(name):
                        self._replace(operations, name, cached(operation))
        return self


def _following(original: Any) -> Any:
    """Return what gets the next element, or raises what says that there is none."""
    context = module_of_tensorflow("eager.context")
    datasets = module_of_tensorflow("ops.gen_dataset_ops")
    optionals = module_of_tensorflow("ops.gen_optional_ops")
    errors = module_of_tensorflow("framework.errors_impl")
    structure = module_of_tensorflow("data.util.structure")

    def next_internal(iterator: Any) -> Any:
        if not context.executing_eagerly():
            return original(iterator)
        kinds = {
            "output_types": iterator._flat_output_types,
            "output_shapes": iterator._flat_output_shapes,
        }
        with context.execution_mode(context.SYNC):
            element = datasets.iterator_get_next_as_optional(
                iterator._iterator_resource, **kinds
            )
            if not optionals.optional_has_value(element):
                raise errors.OutOfRangeError(None, None, "End of sequence")
            values = optionals.optional_get_value(element, **kinds)
        return structure.from_compatible_tensor_list(iterator._element_spec, values)

    return next_internal
