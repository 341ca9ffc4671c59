"""Functions that TensorFlow and Keras make on a user's behalf, by their names.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import re

_INFERENCE = re.compile(r"__(?:inference|forward|backward)_(.*?)(?:_\d+)*")
#: What tf.data calls the functions that it makes of a user's.
_DATASET = re.compile(r"Dataset_(\w+?)_(\w+)")
_FIT = "the train or test step of a Keras model"
_PREDICT = "the predict step of a Keras model"
#: Names that only Keras gives, alone or with the function around them.
_OF_KERAS = {
    "one_step_on_data": _FIT,
    "one_step_on_iterator": _FIT,
    "multi_step_on_iterator": _FIT,
    "one_step_on_data_distributed": _PREDICT,
    "multi_step_on_data": _PREDICT,
    "Model.make_train_function.<locals>.train_function": _FIT,
    "Model.make_test_function.<locals>.test_function": _FIT,
    "Model.make_predict_function.<locals>.predict_function": _PREDICT,
}


def plain_function_name(name: object) -> str:
    """Return the name that a user gave: ``__inference_step_12`` is ``step``.

    One of tf.data's own is named as its method: ``Dataset.map(lambda)``.
    """
    text = name.decode(errors="replace") if type(name) is bytes else name
    if type(text) is not str:
        return ""
    match = _INFERENCE.fullmatch(text)
    plain = match[1] if match else text
    made = _DATASET.fullmatch(plain)
    return f"Dataset.{made[1]}({made[2]})" if made else plain


def owner_of(qualname: str) -> str:
    """Return what a library's function is, ``""`` for one of the user's."""
    around, _, name = qualname.rpartition("<locals>.")
    if around and qualname in _OF_KERAS:
        return _OF_KERAS[qualname]
    return _OF_KERAS.get(name, "")
