"""Benchmarks: every path of cachefs against its floor, in one run.

A number alone says little on a machine that others use too. So a scenario measures two things in
turns, A B A B: ours, and the *floor*, the least that any program would have to do for the same
result (:mod:`cachefs.benchmarks.floors`). What counts is the ratio. Each scenario is a function
from a :class:`cachefs.benchmarks.scenarios.Bench` to rows; :mod:`cachefs.benchmarks.scenarios` names
them all, ``cachefs bench`` and ``make bench`` run them.

The processes under test are the real ones, started as ``cachefs up`` starts them
(:mod:`cachefs.benchmarks.clusters`). The origin is nginx, which serves objects of any size at the
speed of ``sendfile`` and counts its bytes (:mod:`cachefs.benchmarks.nginx`).
"""
