"""What ``--per-zone`` means."""

import pytest

from cachefs.cli.scaling import _zones
from cachefs.errors import ConfigError

POOL = {"wanted_by_zone": {"a": 1}, "live_by_zone": {"b": 2, "": 1}}


@pytest.mark.parametrize(
    ("text", "zones"),
    [
        (None, None),
        ("3", {"a": 3, "b": 3}),
        ("a=1, c=2", {"a": 1, "c": 2}),
        ("a=0", {"a": 0}),
    ],
)
def test_a_number_is_for_every_zone_that_is_known_and_others_are_named(text, zones):
    assert _zones(text, POOL) == zones


@pytest.mark.parametrize("text", ["a", "a=", "a=x", "=,"])
def test_what_is_no_zone_with_a_number_is_refused(text):
    with pytest.raises(ConfigError, match="not a zone with a number"):
        _zones(text, POOL)


def test_a_number_for_zones_that_nobody_knows_is_refused():
    with pytest.raises(ConfigError, match="nobody knows which zones"):
        _zones("2", {"wanted_by_zone": {}, "live_by_zone": {"": 3}})
