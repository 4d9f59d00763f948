"""Units, both ways."""

import pytest

from cachefs.config.units import (
    format_duration,
    format_size,
    parse_duration,
    parse_rate,
    parse_size,
)
from cachefs.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4GiB", 4 << 30),
        ("500MB", 500_000_000),
        ("1048576", 1 << 20),
        ("8m", 8 << 20),
        ("1.5 KiB", 1536),
        ("2Gi", 2 << 30),
    ],
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GiB", "-1", "1 parsec", "1e3", "0x10", "٣GiB"])
def test_what_is_not_a_size_is_refused(text):
    with pytest.raises(ConfigError, match="not a size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("25Gbit", 25e9 / 8),
        ("25 Gbit/s", 25e9 / 8),
        ("100mbit", 12.5e6),
        ("3GB/s", 3e9),
        ("800MiB", 800 << 20),
        ("1000", 1000),
        ("8bit", 1),
    ],
)
def test_rates(text, rate):
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "fast", "25Gbps", "-1GB", "3GB/h", "bit"])
def test_what_is_not_a_rate_is_refused(text):
    with pytest.raises(ConfigError, match="not a rate"):
        parse_rate(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("30s", 30), ("5m", 300), ("2h", 7200), ("7d", 604800), ("3", 3)],
)
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1s", "1 parsec"])
def test_what_is_not_a_duration_is_refused(text):
    with pytest.raises(ConfigError, match="not a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.50 KiB"),
        (90_900_000, "86.7 MiB"),
        (1 << 60, "1024 PiB"),
    ],
)
def test_sizes_are_written_for_people(size, text):
    assert format_size(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.085, "85 ms"), (4.2, "4.2 s"), (185, "3 min 5 s"), (7800, "2 h 10 min")],
)
def test_durations_are_written_for_people(seconds, text):
    assert format_duration(seconds) == text
