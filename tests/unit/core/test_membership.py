"""Membership: leases, epochs, and who is refused."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachefs.core.membership import EMPTY_VIEW, Member, Membership
from cachefs.core.names import WorkerId
from cachefs.errors import ConflictError, LeaseExpiredError

A, B, C = WorkerId("a"), WorkerId("b"), WorkerId("c")


def member(worker: WorkerId, incarnation: str = "1") -> Member:
    return Member(
        worker=worker,
        incarnation=incarnation,
        node="n",
        zone="",
        pool="default",
        weight=1.0,
        data_address="",
        control_address="",
        socket_path="",
    )


def fresh() -> Membership:
    return Membership(EMPTY_VIEW, lease_seconds=10, now=0)


def workers(membership: Membership) -> list[str]:
    return [one.worker for one in membership.view.members]


def test_a_worker_is_a_member_while_it_renews():
    membership = fresh()
    membership.register(member(A), 0)
    for now in (5, 10, 15, 24):
        membership.renew(A, "1", now)
    assert workers(membership) == [A]
    assert membership.view.epoch == 1, "renewals do not change the view"


def test_whoever_does_not_renew_is_retired_at_once_with_others():
    membership = fresh()
    for worker in (A, B, C):
        membership.register(member(worker), 0)
    membership.renew(C, "1", 9)
    assert membership.advance(9.9).epoch == 3
    assert membership.advance(10).epoch == 4, "two expiries are one change"
    assert workers(membership) == [C]


def test_an_expired_worker_must_register_anew():
    membership = fresh()
    membership.register(member(A), 0)
    with pytest.raises(LeaseExpiredError):
        membership.renew(A, "1", 10)
    membership.register(member(A), 11)
    assert workers(membership) == [A]


def test_a_new_incarnation_takes_the_place_of_the_old_one():
    membership = fresh()
    membership.register(member(A, "1"), 0)
    membership.register(member(A, "2"), 1)
    assert workers(membership) == [A]
    with pytest.raises(ConflictError, match="another process"):
        membership.renew(A, "1", 2)
    membership.renew(A, "2", 2)


def test_draining_and_leaving_change_the_view_once():
    membership = fresh()
    membership.register(member(A), 0)
    membership.register(member(B), 0)
    epoch = membership.drain(A, 1).epoch
    assert membership.drain(A, 1).epoch == epoch
    assert [one.draining for one in membership.view.members] == [True, False]
    membership.renew(A, "1", 2)
    assert membership.leave(A, 3).epoch == epoch + 1
    assert membership.leave(A, 3).epoch == epoch + 1
    assert workers(membership) == [B]


def test_after_a_restart_everyone_has_a_full_lease():
    membership = fresh()
    membership.register(member(A), 0)
    again = Membership(membership.view, lease_seconds=10, now=1000)
    assert workers(again) == [A]
    again.renew(A, "1", 1009)
    assert again.advance(1018).epoch == 1


def test_registering_the_same_again_does_not_change_the_view():
    membership = fresh()
    membership.register(member(A), 0)
    membership.register(member(A), 1)
    assert membership.view.epoch == 1
    membership.register(replace(member(A), data_address="elsewhere:1"), 2)
    assert membership.view.epoch == 2


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["register", "renew", "drain", "leave", "advance"]),
            st.sampled_from([A, B, C]),
            st.integers(0, 6),
        ),
        max_size=60,
    )
)
def test_epochs_only_grow_and_only_with_the_view(events):
    membership, now = fresh(), 0.0
    for kind, worker, passed in events:
        now += passed
        before = membership.view
        if kind == "register":
            membership.register(member(worker), now)
        elif kind == "renew":
            try:
                membership.renew(worker, "1", now)
            except LeaseExpiredError:
                assert membership.view.find(worker) is None
        elif kind == "advance":
            membership.advance(now)
        else:
            getattr(membership, kind)(worker, now)
        after = membership.view
        assert after.epoch >= before.epoch
        assert (after.members == before.members) or after.epoch > before.epoch
        assert list(after.members) == sorted(after.members, key=lambda one: one.worker)
