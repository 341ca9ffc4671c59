"""Access to the internals of TensorFlow and Keras, which no other files know."""

from __future__ import annotations
