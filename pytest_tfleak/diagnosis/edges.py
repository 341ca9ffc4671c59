"""How one object holds the next, in the words of the Python that reaches it.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import enum
import functools
import threading
import types
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from pytest_tfleak.census import full_name
from pytest_tfleak.diagnosis.fields import fields_of
from pytest_tfleak.diagnosis.fields import locals_of
from pytest_tfleak.diagnosis.fields import short_type_name

_LONGEST_KEY = 32
_MEMBER = type(types.FunctionType.__closure__)  # a slot of a type
_dict_of_type = type.__dict__["__dict__"].__get__
_mro = type.__dict__["__mro__"].__get__

#: ``.name`` and ``[key]`` continue an expression; anything else begins a new one.
Label = str


def label(chain: list[Any], at: int) -> tuple[Label, int]:
    """Return how ``chain[at]`` holds what comes after it, and where that stands.

    A dictionary of attributes or a closure's cells say nothing of themselves: the label
    reaches over them.
    """
    holder, held = chain[at], chain[at + 1]
    kind = type(holder)
    for types_, tell in _TELLERS:
        if issubclass(kind, types_):
            found: tuple[Label, int] | None = tell(chain, at)
            if found is not None:
                return found
    name = _attribute_name(holder, held)
    if name is not None:
        return f".{name}", at + 1
    if full_name(kind) == "numpy.ndarray":
        return ".base", at + 1
    following = chain[at + 2] if at + 2 < len(chain) else None
    if issubclass(type(held), dict) and following is not None:
        if held is fields_of(holder):
            return f".{_key_of(held, following)}", at + 2
    return "", at + 1


def attributes(holder: object) -> Iterator[tuple[str, object]]:
    """Yield the attributes of an instance, those in slots too, without its code."""
    for name, value in items_of(fields_of(holder)):
        if type(name) is str:
            yield name, value
    for cls in _mro(type(holder)):
        for name, member in list(_dict_of_type(cls).items()):
            if type(member) is _MEMBER and name != "__dict__":
                with suppress(AttributeError):
                    yield name, member.__get__(holder)


def items_of(held: dict[Any, Any]) -> list[tuple[Any, Any]]:
    """Return the items of a dictionary, which a thread may change meanwhile."""
    return list(dict.copy(held).items())


def key_text(key: object) -> str:
    """Return a key of a dictionary as one would write it, if it is a plain one."""
    if type(key) in (str, int, bytes, bool, type(None), float):
        text = repr(key)
        return text if len(text) <= _LONGEST_KEY else text[: _LONGEST_KEY - 3] + "..."
    if issubclass(type(key), enum.Enum):
        name = dict.get(fields_of(key), "_name_")
        return f"{short_type_name(key)}.{name}" if type(name) is str else "..."
    return "..."


def _in_dict(chain: list[Any], at: int) -> tuple[Label, int]:
    holder, held = chain[at], chain[at + 1]
    for key, value in items_of(holder):
        if value is held:
            return f"[{key_text(key)}]", at + 1
    return _of_instance(chain, at) or ("[a key]", at + 1)


def _key_of(holder: Any, held: object) -> str:
    for key, value in items_of(holder):
        if value is held:
            return str(key) if type(key) is str else "..."
    return "..."


def _in_sequence(chain: list[Any], at: int) -> tuple[Label, int]:
    holder, held = chain[at], chain[at + 1]
    fields = _dict_of_type(type(holder)).get("_fields")
    # not a subclass's __iter__
    plain = list if issubclass(type(holder), list) else tuple
    for place, item in enumerate(plain.__iter__(holder)):
        if item is held:
            if type(fields) is tuple and place < len(fields):
                return f".{fields[place]}", at + 1
            return f"[{place}]", at + 1
    return _of_instance(chain, at) or ("[...]", at + 1)


def _in_set(chain: list[Any], at: int) -> tuple[Label, int]:
    return "[...]", at + 1


def _of_instance(chain: list[Any], at: int) -> tuple[Label, int] | None:
    holder, held = chain[at], chain[at + 1]
    for name, value in attributes(holder):
        if value is held:
            return f".{name}", at + 1
    return None


def _in_type(chain: list[Any], at: int) -> tuple[Label, int] | None:
    for name, value in list(_dict_of_type(chain[at]).items()):
        if value is chain[at + 1]:
            return f".{name}", at + 1
    return None


def _in_function(chain: list[Any], at: int) -> tuple[Label, int]:
    function, held = chain[at], chain[at + 1]
    following = chain[at + 2] if at + 2 < len(chain) else None
    if held is function.__closure__ and following is not None:
        name = "..."
        for place, cell in enumerate(held):
            if cell is following:
                name = function.__code__.co_freevars[place]
        step = 3 if at + 3 < len(chain) else 2
        return f"variable {name} of its closure", at + step
    if held is function.__defaults__ and following is not None:
        names = function.__code__.co_varnames[: function.__code__.co_argcount]
        for place, value in enumerate(reversed(held)):
            if value is following:
                return f"default of its argument {names[-1 - place]}", at + 2
    if held is function.__kwdefaults__ and following is not None:
        return f"default of its argument {_key_of(held, following)}", at + 2
    if type(held) is dict and following is not None:
        return f".{_key_of(held, following)}", at + 2
    return "", at + 1


def _in_method(chain: list[Any], at: int) -> tuple[Label, int]:
    return (".__self__" if chain[at + 1] is chain[at].__self__ else "", at + 1)


def _in_cell(chain: list[Any], at: int) -> tuple[Label, int]:
    return "a variable of a closure", at + 1


def _in_frame(chain: list[Any], at: int) -> tuple[Label, int]:
    frame, held = chain[at], chain[at + 1]
    code = frame.f_code
    where = f"{code.co_name}() ({Path(code.co_filename).name}:{frame.f_lineno})"
    found = [name for name, value in locals_of(frame).items() if value is held]
    return (f"local variable {found[0]} of {where}" if found else where), at + 1


def _in_generator(chain: list[Any], at: int) -> tuple[Label, int]:
    holder, held = chain[at], chain[at + 1]
    code = getattr(holder, "gi_code", None) or getattr(holder, "cr_code", None)
    frame = getattr(holder, "gi_frame", None) or getattr(holder, "cr_frame", None)
    if held is frame and at + 2 < len(chain):  # until 3.10 it is one more link
        held, at = chain[at + 2], at + 1
    names = locals_of(frame) if frame is not None else {}
    found = next((name for name, value in names.items() if value is held), "...")
    called = code.co_name if code is not None else "?"
    return f"local variable {found} of the suspended {called}()", at + 1


def _in_exception(chain: list[Any], at: int) -> tuple[Label, int] | None:
    holder, held = chain[at], chain[at + 1]
    if held is _dict_of_type(BaseException)["args"].__get__(holder):
        if at + 2 == len(chain):
            return ".args", at + 1
        place, end = _in_sequence(chain, at + 1)
        return f".args{place}", end
    for name in ("__context__", "__cause__"):
        if held is _dict_of_type(BaseException)[name].__get__(holder):
            return f".{name}", at + 1
    return None


def _in_partial(chain: list[Any], at: int) -> tuple[Label, int]:
    for name in ("func", "args", "keywords"):
        if _dict_of_type(functools.partial)[name].__get__(chain[at]) is chain[at + 1]:
            return f".{name}", at + 1
    return "", at + 1


def _in_local(chain: list[Any], at: int) -> tuple[Label, int]:
    if at + 2 < len(chain):
        return f".{_key_of(chain[at + 1], chain[at + 2])}", at + 2
    return "", at + 1


def _attribute_name(holder: object, held: object) -> str | None:
    for name, value in attributes(holder):
        if value is held:
            return name
    return None


_TELLERS: tuple[tuple[Any, Any], ...] = (
    (type, _in_type),
    (types.FunctionType, _in_function),
    (types.MethodType, _in_method),
    (types.CellType, _in_cell),
    (types.FrameType, _in_frame),
    ((types.GeneratorType, types.CoroutineType), _in_generator),
    (BaseException, _in_exception),
    (functools.partial, _in_partial),
    (threading.local, _in_local),
    (dict, _in_dict),
    ((list, tuple), _in_sequence),
    ((set, frozenset), _in_set),
)
