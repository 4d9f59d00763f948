"""Runs seeds on clusters with a broken part in them, until a checker finds it."""

import itertools

import pytest

from cachefs.testing.simulation.cluster import Parts
from cachefs.testing.simulation.plans import plan_of
from cachefs.testing.simulation.processes.worker import WorkerParts
from cachefs.testing.simulation.seeds import SimulationError, simulate

SEEDS_LIMIT = 150


def parts_of_worker(**parts):
    return Parts(worker=WorkerParts(**parts))


def find(parts, *, calm=None, fault=None, where=lambda plan: True):
    """Return what the simulation says about a broken part, at the first seed that meets the bug."""
    tried = 0
    for seed in itertools.count(5000):
        plan = plan_of(seed)
        if (calm is not None and plan.calm != calm) or (fault and fault not in plan.faults):
            continue
        if not where(plan):
            continue
        tried += 1
        if tried > SEEDS_LIMIT:
            pytest.fail(f"not found within {SEEDS_LIMIT} seeds")
        try:
            simulate(seed, parts=parts)
        except SimulationError as error:
            return str(error)
    raise AssertionError
