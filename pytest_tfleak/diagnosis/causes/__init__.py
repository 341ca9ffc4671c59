"""The table of causes: why code leaks, and what to do about it.

To add a cause, add its row to the file of its subject: ``sessions.py``, ``python.py``,
``tensorflow_objects.py``, ``growth.py`` (how it grows), ``system.py`` or ``proven.py``
(what an experiment shows). Its priority says which rows are tried before it; its rule
checks the ``Evidence``; within a priority, the first row that fits is used. Add a case
to ``test_all_causes.py``, and to ``tests/leaks/planted/causes_*.py`` two tests that are
named after the slug: ``test_SLUG``, which leaks, and ``test_SLUG_mended``.
The pages in ``docs/causes`` are generated from the rows and these tests:
``TFLEAK_REGENERATE=1 python -m pytest tests/meta/test_docs.py`` writes them.
"""

from __future__ import annotations
