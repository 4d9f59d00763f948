"""Shares: that no namespace takes all places from the others."""

import pytest

from cachefs.core.tenants import Tenants
from cachefs.errors import CapacityError
from tests.integration.flows.engines import Kit, flow, step

STRICT = Tenants(trusted=("ops",))
LONG = flow(step("a", "sleep", "60"))


def of(namespace, document):
    return document.replace("namespace: team", f"namespace: {namespace}")


def test_runs_of_one_namespace_that_never_end_stop_nobody_elses(url, effects):
    with Kit(url, effects, runs_limit=4, tenants=STRICT) as kit:
        greedy = [kit.submit(of("team-b", LONG)) for _ in range(6)]
        for run in greedy[:2]:
            kit.wait(run, "Running")
        other = kit.submit(of("team-a", flow(step("b"))))
        assert kit.wait(other).run.state == "Succeeded"
        states = [kit.service.get(run).run.state for run in greedy]
        assert states == ["Running"] * 2 + ["Queued"] * 4


def test_steps_of_one_namespace_that_never_end_stop_nobody_elses(url, effects):
    with Kit(url, effects, steps_limit=4, tenants=STRICT) as kit:
        many = flow(step("a", "sleep", "60", rest="foreach: {n: [1, 2, 3, 4, 5, 6]}"))
        greedy = kit.submit(of("team-b", many))
        kit.wait_for_step(greedy, "a[1]", "Running")
        other = kit.submit(of("team-a", flow(step("b"))))
        assert kit.wait(other).run.state == "Succeeded"
        steps = kit.service.get(greedy).steps
        assert sum(one.state == "Running" for one in steps if "[" in one.id) == 2


def test_one_namespace_does_not_fill_the_queue(url, effects):
    with Kit(url, effects, runs_limit=1, queued_runs_limit=4, tenants=STRICT) as kit:
        kit.wait(kit.submit(of("ops", LONG)), "Running")
        for _ in range(2):
            kit.submit(of("team-b", LONG))
        with pytest.raises(CapacityError, match="too many runs wait"):
            kit.submit(of("team-b", LONG))
        kit.submit(of("team-a", LONG))
        kit.submit(of("ops", LONG))
        with pytest.raises(CapacityError):
            kit.submit(of("ops", LONG))


def test_namespaces_take_turns_though_one_was_in_the_queue_before(url, effects):
    with Kit(url, effects, runs_limit=1) as kit:
        first = kit.submit(of("team-c", LONG))
        kit.wait(first, "Running")
        busy = kit.submit(of("team-b", LONG))
        waits = [kit.submit(of("team-b", LONG)) for _ in range(3)]
        kit.service.cancel(first, keep_cache=True)
        kit.wait(busy, "Running")
        other = kit.submit(of("team-a", flow(step("b"))))
        kit.service.cancel(waits[0], keep_cache=True)
        kit.service.cancel(busy, keep_cache=True)
        kit.wait(other, seconds=5)
        assert kit.service.get(waits[2]).run.state == "Queued"
