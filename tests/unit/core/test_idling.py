"""What becomes of datasets that nobody uses."""

import pytest

from cachefs.core.idling import EVERYTHING, IdlePolicy, Usage, check_policy, policy_for, recover
from cachefs.core.names import DatasetName
from cachefs.errors import ConfigError

NAME = DatasetName("team", "llama")
POLICIES = {
    EVERYTHING: IdlePolicy(demote_after=60, evict_after=600),
    "team": IdlePolicy(evict_after=300),
    "team/kept": IdlePolicy(),
}


def actions(*usages):
    return [(str(each.dataset), each.action, each.size) for each in recover(POLICIES, usages)]


def used(name="other/m", idle=0.0, memory=10, disk=20, pinned=False):
    dataset = DatasetName.parse(name)
    return Usage(
        dataset=dataset, idle_seconds=idle, memory_bytes=memory, disk_bytes=disk, pinned=pinned
    )


@pytest.mark.parametrize(
    ("idle", "expected"),
    [
        (59, []),
        (60, [("other/m", "demote", 10)]),
        (599, [("other/m", "demote", 10)]),
        (600, [("other/m", "evict", 30)]),
    ],
)
def test_memory_goes_first_and_then_everything(idle, expected):
    assert actions(used(idle=idle)) == expected


def test_the_nearest_policy_counts_whole():
    assert policy_for(POLICIES, DatasetName("team", "kept")) == IdlePolicy()
    assert actions(used("team/llama", idle=299), used("team/kept", idle=1e9)) == []
    assert actions(used("team/llama", idle=300)) == [("team/llama", "evict", 30)]
    assert policy_for({}, NAME) is None


def test_what_is_pinned_or_gone_already_is_left_alone():
    assert actions(used(idle=1e9, pinned=True), used(idle=1e9, memory=0, disk=0)) == []
    assert actions(used(idle=100, memory=0)) == []


def test_what_was_idle_longest_comes_first():
    found = actions(used("other/a", idle=700), used("other/b", idle=900))
    assert [name for name, _, _ in found] == ["other/b", "other/a"]


@pytest.mark.parametrize(
    "policy",
    [
        IdlePolicy(demote_after=0),
        IdlePolicy(evict_after=-1),
        IdlePolicy(demote_after=2, evict_after=1),
    ],
)
def test_policies_that_make_no_sense_are_refused(policy):
    with pytest.raises(ConfigError):
        check_policy(policy)
