"""Flows and their runs: what ``Flow`` and ``FlowRun`` objects say, and what became of it.

:mod:`.flows` and :mod:`.runs` compare, and are pure; the keepers beside them look.
"""
