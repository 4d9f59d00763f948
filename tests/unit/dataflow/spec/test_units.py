"""Durations, sizes and rates, as people write them in flows."""

import pytest

from cachefs.dataflow.spec import units
from cachefs.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5s", 5), ("20m", 1200), ("1h30m", 5400), ("250ms", 0.25), ("7d", 604800), (30, 30), (0, 0)],
)
def test_a_duration_is_in_seconds(text, seconds):
    assert units.duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "5 s", "-5s", "1h30", "soon", True, None, "400d", "5M"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ConfigError):
        units.duration(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("400Gi", 400 * 2**30),
        ("400GiB", 400 * 2**30),
        ("10GB", 10**10),
        ("10gb", 10**10),
        ("8M", 8 * 2**20),
        (1048576, 1048576),
        ("1.5 GiB", 3 * 2**29),
    ],
)
def test_a_size_is_in_bytes(text, size):
    assert units.size(text) == size


@pytest.mark.parametrize("text", ["", "10 gigs", "-1", -1, True, 1.5, "10Gb/s", "1e9"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ConfigError):
        units.size(text)


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("10Gb/s", 1_250_000_000),
        ("10Gbit/s", 1_250_000_000),
        ("1GB/s", 10**9),
        ("500MiB/s", 500 * 2**20),
        ("100kb/s", 12_500),
        (0, 0),
    ],
)
def test_a_rate_is_in_bytes_a_second(text, rate):
    assert units.rate(text) == rate


@pytest.mark.parametrize("text", ["10G", "10G/s", "10GB", "fast", 5, True, "1GB/m"])
def test_what_is_no_rate_is_refused(text):
    with pytest.raises(ConfigError):
        units.rate(text)
