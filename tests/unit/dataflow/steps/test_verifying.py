"""``verify``, of workers that serve what the test says."""

from contextlib import contextmanager

import pytest

from cachefs.config.schema import ClusterConfig
from cachefs.core.names import DatasetName
from cachefs.dataflow.steps.verifying import VerifyStep
from cachefs.errors import FlowError, IntegrityError, StepCancelledError, WorkerUnavailableError
from cachefs.ports import FetchedBlock
from cachefs.testing.blocks import block_bytes, block_digest
from cachefs.testing.memory.cache import BLOCK_SIZE, MemoryCache
from tests.unit.dataflow.steps.contexts import Steps, carry_out

URL = "memory://v1"
NAME = DatasetName("team", "llama")
ARGUMENTS = {"dataset": "llama"}


class Source:
    """The data plane: right bytes, but for the blocks that are bad somewhere."""

    def __init__(self):
        self.cluster = ClusterConfig(block_size=BLOCK_SIZE)
        self.bad = set()
        self.rotten_for_ever = False
        self.missing = set()
        self.failing = []
        self.read = []

    @contextmanager
    def blocks(self, _runtime):
        yield self

    def fetch(self, member, request):
        place = (member.worker, request.file.entry.path, request.index)
        self.read.append(place)
        if self.failing:
            raise self.failing.pop()
        if request.verify and not self.rotten_for_ever:
            assert not request.only_cached
            self.bad.discard(place)
            self.missing.discard(place)
        if place in self.missing:
            return None
        request.into[:] = block_bytes(request.file, request.index, BLOCK_SIZE)
        if place in self.bad:
            request.into[0] ^= 1
        return FetchedBlock(block_digest(request.file, request.index, BLOCK_SIZE), "disk")


@pytest.fixture
def cache():
    cache = MemoryCache({URL: {"a": 950, "b": 150}})
    cache.add_worker("one", "x")
    cache.add_worker("two", "y")
    cache.publish(NAME, URL, {}, label="v1")
    cache.warm(NAME, None, [], key="k", copies=2)
    cache.fill()
    return cache


@pytest.fixture
def source():
    return Source()


@pytest.fixture
def step(cache, source):
    return VerifyStep(cache, source)


def test_each_copy_of_each_block_is_read_once(step, source):
    observed = carry_out(step, Steps().attempt(), ARGUMENTS)
    assert len(source.read) == len(set(source.read)) == 24
    assert observed.outputs == {"checked": 24, "bytes": 2200, "bad": 0, "gone": 0}


def test_a_zone_and_some_files_are_read_if_only_they_are_asked_for(step, source):
    carry_out(step, Steps().attempt(), {**ARGUMENTS, "zone": "x", "paths": ["b"]})
    assert source.read == [("one", "b", 0), ("one", "b", 1)]


def test_a_fraction_is_spread_evenly(step, source):
    carry_out(step, Steps().attempt(), {**ARGUMENTS, "fraction": 0.25, "zone": "x"})
    assert source.read == [("one", "a", 0), ("one", "a", 4), ("one", "a", 8)]


def test_what_is_wrong_or_gone_is_filled_anew_and_counted(step, source):
    source.bad = {("two", "a", 3)}
    source.missing = {("one", "b", 1)}
    context = Steps().attempt()
    observed = carry_out(step, context, ARGUMENTS)
    assert observed.outputs == {"checked": 24, "bytes": 2200, "bad": 1, "gone": 1}
    assert [message for _, message in context.take_told()] == [
        "block 3 of a on two was wrong, and is filled anew",
        "block 1 of b on one was gone, and is filled anew",
    ]


def test_what_stays_wrong_fails_the_step_which_may_be_retried(step, source):
    source.bad = {("two", "a", 3)}
    source.rotten_for_ever = True
    steps = Steps()
    with pytest.raises(IntegrityError, match="block 3 of a on two") as caught:
        carry_out(step, steps.attempt(), ARGUMENTS)
    assert caught.value.retryable
    assert not step.observe(steps.attempt(), ARGUMENTS).done


def test_bytes_that_match_what_the_worker_says_but_not_what_is_known_are_wrong(
    cache, step, monkeypatch
):
    digests = cache.digests
    monkeypatch.setattr(cache, "digests", lambda file: [b"x" * 16, *digests(file)[1:]])
    with pytest.raises(IntegrityError):
        carry_out(step, Steps().attempt(), ARGUMENTS)


def test_a_worker_that_does_not_answer_once_is_asked_again(step, source):
    source.failing = [WorkerUnavailableError("busy")]
    assert carry_out(step, Steps().attempt(), ARGUMENTS).outputs["checked"] == 24


def test_where_nothing_is_resident_nothing_was_verified(cache, step):
    for worker in ("one", "two"):
        cache.remove_worker(worker)
    with pytest.raises(FlowError, match="no worker"):
        carry_out(step, Steps().attempt(), ARGUMENTS)


def test_a_successor_goes_on_where_the_other_was(step, source, monkeypatch):
    monkeypatch.setattr("cachefs.dataflow.steps.verifying._NOTE_SECONDS", 0.0)
    steps = Steps()
    context = steps.attempt()
    fetch = source.fetch

    def stop_after_ten(member, request):
        if len(source.read) == 10:
            context.stop()
            raise WorkerUnavailableError("cancelled")
        return fetch(member, request)

    source.fetch = stop_after_ten
    with pytest.raises(StepCancelledError):
        carry_out(step, context, ARGUMENTS)
    source.fetch = fetch
    observed = carry_out(step, steps.attempt(2), ARGUMENTS)
    assert observed.outputs["checked"] == 24
    assert len(source.read) == len(set(source.read)) == 24
