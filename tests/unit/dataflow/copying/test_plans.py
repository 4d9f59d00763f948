"""What two listings say of a copy."""

import pytest

from cachefs.core.manifest import FileEntry
from cachefs.dataflow.copying.ledger import Ledger
from cachefs.dataflow.copying.plans import (
    PART_BYTES,
    PARTS_MAX,
    Candidate,
    compare,
    is_equal,
    part_bytes_of,
    sizes_of,
)

MD5 = '"0123456789abcdef0123456789abcdef"'


def entry(path, size=10, token="t"):
    return FileEntry(path, size, token, "", "")


def test_what_is_noted_is_done_and_the_rest_is_not():
    ledger = Ledger()
    ledger.settle(entry("a"), "copy", wrote=True)
    plan = compare([entry("a"), entry("b")], [entry("a", token="copy"), entry("x")], ledger)
    assert [one.path for one in plan.done] == ["a"]
    assert [(one.entry.path, one.there) for one in plan.candidates] == [("b", None)]
    assert (plan.bytes_done, plan.bytes_left) == (10, 10)


@pytest.mark.parametrize(
    ("there", "verify", "equal"),
    [
        (None, "none", False),
        (entry("a", 11, MD5), "none", False),
        (entry("a", 10, "other"), "none", True),
        (entry("a", 10, "other"), "size", True),
        (entry("a", 10, "other"), "xxh128", False),
        (entry("a", 10, "t"), "xxh128", False),
    ],
)
def test_a_size_is_enough_only_for_who_asks_for_no_more(there, verify, equal):
    assert is_equal(Candidate(entry("a"), there), verify) is equal


def test_the_md5_that_both_ends_tell_is_enough_but_for_sha256():
    both = Candidate(entry("a", token=MD5), entry("a", token=MD5))
    assert is_equal(both, "xxh128")
    assert not is_equal(both, "sha256")
    of_parts = MD5[:-1] + '-2"'
    assert not is_equal(Candidate(entry("a", token=of_parts), entry("a", token=of_parts)), "xxh128")


def test_an_estimate_tells_what_is_copied_from_what_is_compared():
    sources = [entry("new", 1), entry("larger", 20), entry("same", 300), entry("md5", 4000, MD5)]
    there = [entry("larger", 2), entry("same", 300, "o"), entry("md5", 4000, MD5)]
    found = sizes_of(compare(sources, there, Ledger()), "xxh128")
    assert (found.files, found.bytes) == (4, 4321)
    assert (found.files_to_copy, found.bytes_to_copy) == (2, 21)
    assert (found.files_to_compare, found.bytes_to_compare) == (1, 300)


def test_a_file_never_has_more_parts_than_there_may_be():
    assert part_bytes_of(1, least=1) == PART_BYTES
    assert part_bytes_of(1, least=PART_BYTES + 1) == PART_BYTES + 1
    assert part_bytes_of(100, least=5, usual=3) == 5
    huge = 5 * 2**40
    assert -(-huge // part_bytes_of(huge, least=1)) <= PARTS_MAX
