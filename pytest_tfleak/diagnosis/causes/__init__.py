"""The table of causes: why code leaks, and what to do about it.

A cause is a row of ``CAUSES`` in the file of its subject:

- ``proven.py``: what an experiment shows, or a scope that is still open
- ``managers.py``: context managers that a failing call has shown to leak
- ``python.py``: Python's own objects and the standard library
- ``system.py``: threads, files, processes, native memory
- ``sessions.py``: sessions, graphs and traced functions
- ``growth.py``: how the number of objects or their size grows
- ``tensorflow_objects.py``: TensorFlow, Keras, NumPy, and objects of any type

Its priority says which rows are tried before it; within a priority, the first row that
fits is used. The other files fill in its texts (``places.py``, ``typed_in.py``), or say
what the evidence shows (``resources.py``, ``pools.py``). CONTRIBUTING.md has the recipe
for a new cause, with its tests and its page.
"""

from __future__ import annotations
