"""Turn verdicts into text: the failure message, and one module for each report.

``document`` makes the data for all files; all use ``words``, ``text`` and ``holder``.
"""
