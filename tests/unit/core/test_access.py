"""Access history: what is read ahead, and which file comes next."""

import pytest

from cachefs.core.access import AccessHistory, predict_next
from cachefs.core.blocks import Range


def history() -> AccessHistory:
    return AccessHistory(window_start=100, window_limit=1000)


def test_the_first_read_opens_no_window():
    assert history().record(Range(0, 10)).length == 0


def test_reads_that_go_forward_double_the_window_up_to_the_limit():
    reads = history()
    windows = [reads.record(Range(at * 50, 50)).length for at in range(8)]
    assert windows == [0, 100, 200, 400, 800, 1000, 1000, 1000]


def test_the_window_begins_where_the_reads_have_come_to():
    reads = history()
    reads.record(Range(0, 50))
    assert reads.record(Range(50, 50)) == Range(100, 100)


def test_a_jump_closes_the_window():
    reads = history()
    for at in range(5):
        reads.record(Range(at * 50, 50))
    assert reads.record(Range(50_000, 50)).length == 0
    assert reads.record(Range(10, 50)).length == 0


def test_random_reads_never_open_a_window():
    reads = history()
    offsets = [7_000, 100, 90_000, 20_000, 64_000, 3_000]
    assert [reads.record(Range(offset, 10)).length for offset in offsets] == [0] * 6


def test_threads_that_arrive_out_of_order_still_read_forward():
    reads = history()
    windows = [reads.record(Range(offset, 50)).length for offset in (0, 100, 50, 150, 250, 200)]
    assert windows[-1] > 100


def test_reading_the_same_place_again_does_not_widen_the_window():
    reads = history()
    reads.record(Range(0, 50))
    reads.record(Range(50, 50))
    assert [reads.record(Range(50, 50)).length for _ in range(3)] == [100, 100, 100]


def test_reads_that_go_backward_open_a_window_before_them():
    reads = history()
    ranges = [reads.record(Range(offset, 50)) for offset in (5000, 4950, 4900, 4850, 4800)]
    assert ranges[1:] == [
        Range(4850, 100),
        Range(4700, 200),
        Range(4450, 400),
        Range(4000, 800),
    ]
    assert reads.backward


def test_a_window_before_ends_at_the_beginning_of_the_file():
    reads = history()
    for offset in (250, 200, 150):
        ahead = reads.record(Range(offset, 50))
    assert ahead == Range(0, 150)


def test_reads_around_each_miss_of_a_mapping_that_is_read_backward_go_backward():
    """The kernel reads around the page that is missing, a part of it further on."""
    reads = history()
    for offset in (5000, 5050, 5100, 4950, 4850, 4900, 4750, 4800, 4700):
        ahead = reads.record(Range(offset, 50))
    assert reads.backward
    assert ahead.end == 4700
    assert ahead.length > 100
    jump = reads.record(Range(9000, 50))
    assert (jump.length, reads.backward) == (0, False)


@pytest.mark.parametrize(
    ("opened", "expected"),
    [
        (["model-00001-of-00003.safetensors"], "model-00002-of-00003.safetensors"),
        (["model-00003-of-00003.safetensors"], None),
        (["sub/model-00002-of-00003.safetensors"], None),
        (["part-8.bin", "part-9.bin"], "part-10.bin"),
        (["part-9.bin"], None),
        (["part-7.bin", "part-9.bin"], None),
        (["part-9.bin", "part-8.bin"], None),
        (["config.json"], None),
        ([], None),
    ],
)
def test_what_follows_a_file_is_told_by_its_name(opened, expected):
    known = {
        "config.json",
        "model-00001-of-00003.safetensors",
        "model-00002-of-00003.safetensors",
        "model-00003-of-00003.safetensors",
        *(f"part-{number}.bin" for number in range(12)),
    }
    assert predict_next(opened, known) == expected
