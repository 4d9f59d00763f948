"""Whom a worker asks for a block before it asks the origin."""

from dataclasses import replace
from random import Random

import pytest

from cachefs.core import placement
from cachefs.core.blocks import BlockId, FileVersionId
from cachefs.core.manifest import FileEntry, VersionId
from cachefs.core.membership import Member, View
from cachefs.core.names import DatasetName, WorkerId
from cachefs.ports import FileRef
from cachefs.workers.filling.peers import SILENCE_SECONDS, Peers


class Clock:
    """As much of a runtime as peers need."""

    def __init__(self):
        self.now = 0.0
        self.random = Random(0)

    def monotonic(self):
        return self.now


def member(name):
    return Member(
        worker=WorkerId(name), incarnation="1", node="n", zone="", pool="default", weight=1.0,
        data_address="", control_address="", socket_path="",
    )  # fmt: skip


FILE = FileRef(
    DatasetName("default", "m"),
    VersionId("0" * 40),
    FileEntry("a", 100, "t", "", FileVersionId("1" * 40)),
    "default",
    1,
)
MEMBERS = tuple(member(f"w{n}") for n in range(5))
ORDER = [
    each.worker
    for each in placement.order(BlockId(FILE.entry.file_version, 0), MEMBERS, pool="default")
]


@pytest.fixture
def clock():
    return Clock()


def peers_of(clock, own):
    return Peers(clock, own, lease_seconds=10.0, asked_limit=3)


def test_the_owner_asks_those_who_owned_before_it_joined(clock):
    peers = peers_of(clock, ORDER[0])
    found = peers.candidates(FILE, 0, View(1, MEMBERS))
    assert found.first_owner is None
    assert [each.worker for each in found.members] == ORDER[1:4]


def test_another_than_the_owner_knows_who_the_owner_is(clock):
    found = peers_of(clock, ORDER[2]).candidates(FILE, 0, View(1, MEMBERS))
    assert found.first_owner is not None
    assert found.first_owner.worker == ORDER[0]
    assert found.members[0].worker == ORDER[0]


def test_a_draining_member_is_asked_first(clock):
    members = tuple(replace(each, draining=each.worker == ORDER[0]) for each in MEMBERS)
    found = peers_of(clock, ORDER[1]).candidates(FILE, 0, View(2, members))
    assert found.first_owner is None
    assert found.members[0].worker == ORDER[0]


def test_the_owner_of_the_view_before_is_asked_first(clock):
    peers = peers_of(clock, ORDER[0])
    without_us_two = [each for each in MEMBERS if each.worker not in ORDER[:3]]
    peers.observe(View(1, tuple(without_us_two)))
    found = peers.candidates(FILE, 0, View(2, MEMBERS))
    assert found.members[0].worker == ORDER[3]


def test_a_member_that_is_gone_is_not_asked(clock):
    peers = peers_of(clock, ORDER[0])
    peers.observe(View(1, MEMBERS))
    found = peers.candidates(FILE, 0, View(2, tuple(m for m in MEMBERS if m.worker != ORDER[1])))
    assert ORDER[1] not in [each.worker for each in found.members]


def test_a_silent_peer_is_left_alone_for_a_while(clock):
    peers = peers_of(clock, ORDER[1])
    peers.avoid_silent(ORDER[0])
    found = peers.candidates(FILE, 0, View(1, MEMBERS))
    assert found.first_owner is None
    assert ORDER[0] not in [each.worker for each in found.members]
    clock.now = SILENCE_SECONDS + 1
    assert peers.candidates(FILE, 0, View(1, MEMBERS)).first_owner is not None


@pytest.mark.parametrize("incarnation", ["1", "2"], ids=["after its lease ran out", "restarted"])
def test_a_silent_peer_is_asked_again_as_soon_as_it_has_registered_anew(clock, incarnation):
    peers = peers_of(clock, ORDER[1])
    peers.observe(View(1, MEMBERS))
    peers.avoid_silent(ORDER[0])
    if incarnation == "1":
        peers.observe(View(2, tuple(each for each in MEMBERS if each.worker != ORDER[0])))
    assert peers.avoids(ORDER[0])
    back = tuple(
        replace(each, incarnation=incarnation) if each.worker == ORDER[0] else each
        for each in MEMBERS
    )
    found = peers.candidates(FILE, 0, View(3, back))
    assert found.first_owner is not None
    assert found.members[0].worker == ORDER[0]


def test_a_suspect_is_not_asked_again_because_it_was_restarted(clock):
    peers = peers_of(clock, ORDER[1])
    peers.observe(View(1, MEMBERS))
    peers.suspect(ORDER[0])
    peers.observe(View(2, tuple(replace(each, incarnation="2") for each in MEMBERS)))
    assert peers.avoids(ORDER[0])


def test_a_suspect_is_reported_until_the_coordinator_has_heard(clock):
    peers = peers_of(clock, ORDER[0])
    peers.suspect(ORDER[1])
    assert peers.suspects() == {ORDER[1]}
    peers.forget_suspects(peers.suspects())
    assert peers.suspects() == frozenset()
    found = peers.candidates(FILE, 0, View(1, MEMBERS))
    assert ORDER[1] not in [each.worker for each in found.members]


def test_members_that_have_not_changed_for_long_are_settled(clock):
    peers = peers_of(clock, ORDER[0])
    assert not peers.candidates(FILE, 0, View(1, MEMBERS)).settled
    clock.now = 21.0
    assert peers.candidates(FILE, 0, View(1, MEMBERS)).settled
    assert not peers.candidates(FILE, 0, View(2, MEMBERS[:4])).settled
