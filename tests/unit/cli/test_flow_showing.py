"""How runs and steps are shown."""

import pytest

from cachefs.cli.flow.showing import seconds_of


@pytest.mark.parametrize(
    ("started", "ended", "shown"),
    [(0.0, 0.0, ""), (100.0, 0.0, "10.0 s"), (100.0, 102.0, "2.0 s"), (105.0, 102.0, "5.0 s")],
)
def test_what_is_undone_after_it_had_ended_takes_time_again(started, ended, shown):
    assert seconds_of({"started_at": started, "ended_at": ended}, 110.0) == shown
