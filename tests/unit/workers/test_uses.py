"""What a worker remembers of who read what."""

from cachefs.core.names import DatasetName
from cachefs.transport.runtime import ThreadRuntime
from cachefs.workers.uses import DATASETS_LIMIT, REMEMBERED_SECONDS, Uses

A, B = DatasetName.parse("a"), DatasetName.parse("team/b")


class Clock(ThreadRuntime):
    """Time that the test moves."""

    now = 0.0

    def monotonic(self):
        return self.now


def test_the_last_use_of_each_dataset_counts_and_old_ones_are_forgotten():
    clock = Clock()
    uses = Uses(clock)
    uses.note(A)
    clock.now = 100.0
    uses.note(B)
    clock.now = 130.0
    assert uses.seconds_ago() == {A: 130.0, B: 30.0}
    clock.now = 50.0 + REMEMBERED_SECONDS
    assert list(uses.seconds_ago()) == [B]


def test_what_is_lent_out_is_in_use_until_the_last_one_gives_it_back():
    clock = Clock()
    uses = Uses(clock)
    uses.begin(A)
    uses.begin(A)
    clock.now = 5000.0
    assert uses.seconds_ago() == {A: 0.0}
    uses.end(A)
    clock.now = 9000.0
    assert uses.seconds_ago() == {A: 0.0}
    uses.end(A)
    clock.now = 9060.0
    assert uses.seconds_ago() == {A: 60.0}


def test_of_very_many_datasets_the_newest_are_remembered():
    clock = Clock()
    uses = Uses(clock)
    for number in range(3 * DATASETS_LIMIT):
        clock.now += 0.001
        uses.note(DatasetName.parse(f"d{number}"))
    found = uses.seconds_ago()
    assert len(found) == DATASETS_LIMIT
    assert DatasetName.parse(f"d{3 * DATASETS_LIMIT - 1}") in found
