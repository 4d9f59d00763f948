"""Ranges and listings."""

import pytest

from cachefs.cli.reading import _one_level, parse_range
from cachefs.core.blocks import FileVersionId
from cachefs.core.manifest import FileEntry
from cachefs.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, (0, 100)),
        ("0-0", (0, 1)),
        ("10-19", (10, 20)),
        ("90-", (90, 100)),
        ("-10", (90, 100)),
        ("-1000", (0, 100)),
        ("90-1000", (90, 100)),
        ("200-300", (100, 100)),
    ],
)
def test_a_range_means_what_it_means_in_http(text, expected):
    assert parse_range(text, 100) == expected


@pytest.mark.parametrize("text", ["", "-", "5", "a-b", "9-3", "1-2-3", "٣-٤"])
def test_what_is_no_range_is_refused(text):
    with pytest.raises(ConfigError):
        parse_range(text, 100)


def entry(path, size=1):
    return FileEntry(path, size, "token", "", FileVersionId("0" * 40))


def test_one_level_shows_folders_with_the_bytes_below_them():
    entries = [entry("a/b/c", 10), entry("a/d", 5), entry("e", 1)]
    assert [(row.path, row.size) for row in _one_level(entries, "")] == [("a/", 15), ("e", 1)]
    below = [entry("a/b/c", 10), entry("a/d", 5)]
    assert [(row.path, row.size) for row in _one_level(below, "a")] == [("b/", 10), ("d", 5)]


def test_one_level_of_a_file_is_the_file():
    assert _one_level([entry("a/d")], "a/d") == [entry("a/d")]
