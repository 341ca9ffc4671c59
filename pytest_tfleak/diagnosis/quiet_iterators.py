"""Take away what TensorFlow keeps of each iterator over a dataset.

Where a dataset ends, an error of C++ leaves a rendezvous behind that is never freed; a
dataset that is tuned leaves a model in the metrics.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from typing import Any

from pytest_tfleak.diagnosis.neutraliser import Neutraliser
from pytest_tfleak.diagnosis.neutraliser import module_of_tensorflow


class QuietIterators(Neutraliser):
    """Find the end of a dataset without an error of C++, and tune nothing."""

    name = "quiet-iterators"
    words = "with datasets that end without an error and are not tuned"

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
