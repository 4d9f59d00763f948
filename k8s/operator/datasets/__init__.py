"""Datasets: what ``Dataset`` objects say, made so in the coordinator, with a volume for each.

:mod:`.datasets` and :mod:`.volumes` compare, and are pure; :mod:`.keeper` looks for them. :mod:`.ledger` remembers
which of the coordinator's datasets are ours.
"""
