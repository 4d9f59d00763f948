"""Which engine serves, on machines of all kinds."""

from dataclasses import replace

import pytest

from cachefs.errors import ConfigError
from cachefs.fuse.engines.choice import Machine, choose, look_around

ROOT = Machine(
    kernel=(6, 18), device="", privileged=True, fusermount=True, library=True, others_allowed=True
)


def machine(**changes):
    return replace(ROOT, **changes)


@pytest.mark.parametrize(
    ("changes", "engine", "reason", "recovery"),
    [
        ({}, "native", "(passthrough)", True),
        ({"privileged": False}, "native", "passthrough needs root", True),
        ({"kernel": (6, 8)}, "native", "passthrough came with 6.9", False),
        ({"kernel": (5, 3)}, "libfuse", "too old for the native engine", False),
        ({"library": False}, "native", "(passthrough)", True),
    ],
)
def test_auto_takes_the_better_one_that_works(changes, engine, reason, recovery):
    choice = choose("auto", machine(**changes))
    assert choice.engine == engine
    assert reason in choice.reason
    assert choice.recovery is recovery
    assert bool(choice.recovery_reason) is not recovery


@pytest.mark.parametrize("engine", ["native", "libfuse"])
def test_what_is_asked_for_is_taken(engine):
    choice = choose(engine, ROOT)
    assert choice.engine == engine
    assert choice.reason.startswith("as asked; ")


@pytest.mark.parametrize(
    ("wanted", "changes", "fault"),
    [
        ("auto", {"device": "No such file or directory"}, "/dev/fuse"),
        ("auto", {"privileged": False, "fusermount": False}, "only root may mount"),
        ("auto", {"kernel": (5, 3), "library": False}, "too old"),
        ("native", {"kernel": (5, 3)}, "too old"),
        ("libfuse", {"library": False}, "mfusepy is not installed"),
        ("steam", {}, "not an engine"),
    ],
)
def test_what_cannot_be_is_refused_with_a_reason_and_advice(wanted, changes, fault):
    with pytest.raises(ConfigError, match=fault) as caught:
        choose(wanted, machine(**changes))
    assert caught.value.hint


def test_this_machine_can_be_looked_at():
    assert look_around().kernel > (3, 0)
