"""Two coordinators on one PostgreSQL: no step is carried out by both, and none is forgotten."""

import pytest

from tests.integration.flows.engines import Kit, flow, states_of, step

pytestmark = [pytest.mark.postgres, pytest.mark.slow]
LEASE = 1.2


@pytest.fixture
def two(postgres_url, effects):
    with (
        Kit(postgres_url, effects, lease_seconds=LEASE) as one,
        Kit(postgres_url, effects, lease_seconds=LEASE) as other,
    ):
        yield one, other


def owner_of(kits, run):
    return next(kit for kit in kits if kit.engine.carries_out(run))


def test_the_runs_of_a_dead_coordinator_go_on(two):
    one, other = two
    document = flow(
        step("a", rest="foreach: {n: [1, 2, 3]}"),
        step("b", "sleep", "0.5", needs=["a"]),
        step("c", needs=["b"]),
    )
    runs = [one.submit(document) for _ in range(5)]
    for run in runs:
        one.wait_for_step(run, "b", "Running")
    assert any(one.engine.carries_out(run) for run in runs)
    one.store.dead = True
    for run in runs:
        assert other.wait(run, seconds=20.0).run.state == "Succeeded"
    assert len(one.effects.keys()) == 5 * 5
    for run in runs:
        kinds = other.kinds(run, "c")
        assert kinds.count("step-succeeded") == 1


def test_an_owner_that_cannot_renew_stops_before_another_begins(two):
    run = two[0].submit(flow(step("a", "rest", "4"), step("b", needs=["a"])))
    two[0].wait_for_step(run, "a", "Running")
    owner = owner_of(two, run)
    successor = next(kit for kit in two if kit is not owner)
    owner.store.dead = True  # and its step, which asks the store nothing, does not know
    assert successor.wait(run, seconds=20.0).run.state == "Succeeded"
    ours = [end for key, _, end in owner.kind.spans if key == f"{run}/a"]
    theirs = [begin for key, begin, _ in successor.kind.spans if key == f"{run}/a"]
    assert len(ours) == len(theirs) == 1
    assert ours[0] < theirs[0]


def test_what_a_fenced_owner_writes_is_refused(two):
    run = two[0].submit(flow(step("a", "sleep", "30"), step("b", needs=["a"])))
    two[0].wait_for_step(run, "a", "Running")
    owner = owner_of(two, run)
    successor = next(kit for kit in two if kit is not owner)
    with owner.store.write() as connection:  # as if it had been taken for dead while it was paused
        connection.exec_driver_sql(
            "DELETE FROM run_owners WHERE owner = %s", (owner.engine._leases.owner,)
        )
        connection.exec_driver_sql(
            "UPDATE runs SET owner = %s, fence = fence + 1", (successor.engine._leases.owner,)
        )
    until = owner.runtime.monotonic() + 5.0
    while owner.engine.carries_out(run) or not successor.engine.carries_out(run):
        assert owner.runtime.monotonic() < until
        owner.runtime.sleep(0.02)
    successor.service.cancel(run, keep_cache=False)
    assert states_of(successor.wait(run)) == {"a": "Cancelled", "b": "Cancelled"}
    owner.runtime.sleep(0.3)
    assert owner.kind.spans[0][0] == f"{run}/a"


def test_what_is_asked_of_one_coordinator_is_heard_by_the_other(two):
    run = two[0].submit(flow("id: gate, kind: approve", step("a", "sleep", "30", needs=["gate"])))
    two[0].wait_for_step(run, "gate", "Blocked")
    stranger = next(kit for kit in two if not kit.engine.carries_out(run))
    stranger.service.approve(run, "gate", granted=True, by="ann")
    stranger.wait_for_step(run, "a", "Running")
    stranger.service.cancel(run, keep_cache=False)
    assert stranger.wait(run, seconds=3.0).run.state == "Cancelled"


def test_a_coordinator_that_ends_hands_its_runs_over_at_once(two):
    run = two[0].submit(flow(step("a", "sleep", "1.5"), step("b", needs=["a"])))
    two[0].wait_for_step(run, "a", "Running")
    owner = owner_of(two, run)
    successor = next(kit for kit in two if kit is not owner)
    began = owner.runtime.monotonic()
    owner.engine.close()
    while not successor.engine.carries_out(run):
        assert owner.runtime.monotonic() - began < LEASE
        owner.runtime.sleep(0.02)
    assert successor.wait(run).run.state == "Succeeded"


def test_two_submissions_with_one_key_at_two_coordinators_are_one_run(two):
    document = flow(step("a"))
    runs = {kit.service.submit(document, {}, key="k").run.id for kit in two}
    assert len(runs) == 1
    assert two[0].wait(*runs).run.state == "Succeeded"
