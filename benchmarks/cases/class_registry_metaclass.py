"""A metaclass registers each class, and a class is made for each message.

marshmallow-code/marshmallow#732: ``type("MsgSchema", (Schema,), {})`` in a loop grew
memory, because every new schema was added to a registry of classes.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

META = dict[str, str](
    status="leaks today",
    source="marshmallow-code/marshmallow#732",
    kind="SchemaMeta",
    also="type, Message, EagerTensor",
    holder="REGISTRY['Message']",
    made_at="made here",
    stored_at="stored here",
    fix="make the class once, or keep classes that are made at run time unregistered.",
)

REGISTRY: dict[str, list[type]] = {}


class SchemaMeta(type):
    """Registers the classes that have a name."""

    def __init__(cls, name: str, bases: tuple[type, ...], space: Any) -> None:
        super().__init__(name, bases, space)
        if name:
            REGISTRY.setdefault(name, []).append(cls)  # stored here


class Schema(metaclass=SchemaMeta):
    """What fields a message has."""

    default: Any = None

    def load(self, message: dict[str, Any]) -> Any:
        """Return the payload of a message."""
        return message.get("payload", self.default)


def parse(name: str) -> float:
    """Make a schema for a message, and read the message with it."""
    default = tf.ones([48, 48])  # made here
    schema = SchemaMeta(name, (Schema,), {"default": default})  # made here
    return float(tf.reduce_sum(schema().load({})))


def leaky(state: None) -> None:
    """Give the class a name."""
    parse("Message")


def clean(state: None) -> None:
    """Give it none: it is not registered."""
    parse("")


def teardown(state: None) -> None:
    """Forget the classes."""
    REGISTRY.pop("Message", None)
