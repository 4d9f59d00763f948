"""Triggers: what starts runs besides people: a timetable, a new version of a dataset, a webhook.

:mod:`.registering` keeps the flows that have triggers, :mod:`.firing` looks at them, :mod:`.store` has
the rows.
"""
