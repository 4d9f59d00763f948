"""Cron: five fields that say in which minutes something happens, always in UTC.

The rules are those of POSIX ``crontab`` with what every cron of today adds: names of months and days,
ranges and lists with steps (``*/15``, ``8-18/2``), Sunday as 0 or 7, and ``@hourly``, ``@daily``,
``@weekly``, ``@monthly``, ``@yearly``. When both the day of the month and the day of the week are
restricted, a day that fits *either* counts, as POSIX has it.

UTC has no hours that happen twice or not at all, so an hour is missed or repeated only by who keeps
the clock.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

from cachefs.core.names import printable
from cachefs.core.nearest import did_you_mean
from cachefs.errors import ConfigError

_MACROS: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
}
_MONTHS: Final = {
    name: number
    for number, name in enumerate(
        ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), 1
    )
}
_DAYS: Final = {
    name: number for number, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))
}
_FIELDS: Final[tuple[tuple[str, int, int, dict[str, int]], ...]] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of the month", 1, 31, {}),
    ("month", 1, 12, _MONTHS),
    ("day of the week", 0, 7, _DAYS),
)
_DAYS_SEARCHED: Final = 366 * 9
"""29 February may be eight years away: 1896 and 1904."""
_LENGTH_MAX: Final = 200
_MINUTE: Final = 60


@dataclass(frozen=True, slots=True)
class Cron:
    """When something happens."""

    text: str
    """As it was written."""
    minutes: frozenset[int]
    hours: frozenset[int]
    month_days: frozenset[int]
    months: frozenset[int]
    week_days: frozenset[int]
    """0 is Sunday."""
    either_day: bool
    """Whether a day needs to fit only one of the two fields for days."""

    def matches(self, at: float) -> bool:
        """Say whether the minute of a moment is one of them.

        Args:
            at: Seconds since 1970.
        """
        moment = datetime.fromtimestamp(at, UTC)
        return (
            moment.minute in self.minutes
            and moment.hour in self.hours
            and self._matches_day(moment.date())
        )

    def next_after(self, at: float) -> float:
        """Return when the first such minute begins that begins after a moment.

        Args:
            at: Seconds since 1970; so is what is returned.
        """
        start = datetime.fromtimestamp(at // _MINUTE * _MINUTE + _MINUTE, UTC)
        for days in range(_DAYS_SEARCHED):
            day = start.date() + timedelta(days)
            if not self._matches_day(day):
                continue
            earliest = (start.hour, start.minute) if days == 0 else (0, 0)
            for hour in sorted(self.hours):
                for minute in sorted(self.minutes):
                    if (hour, minute) >= earliest:
                        found = datetime(day.year, day.month, day.day, hour, minute, tzinfo=UTC)
                        return found.timestamp()
        raise ConfigError("it never happens", subject=self.text)

    def _matches_day(self, day: date) -> bool:
        if day.month not in self.months:
            return False
        of_month = day.day in self.month_days
        of_week = day.isoweekday() % 7 in self.week_days
        return of_month or of_week if self.either_day else of_month and of_week


def parse(text: str) -> Cron:
    """Return what five fields, or one of the words with ``@``, stand for.

    Raises:
        ConfigError: They stand for nothing, or for a day that never comes.
    """
    words = _MACROS.get(text.strip().lower(), text).split()
    if text.strip().startswith("@") and len(words) == 1:
        raise ConfigError(
            "no such schedule",
            subject=printable(text[:_LENGTH_MAX]),
            hint=did_you_mean(words[0], _MACROS) or ", ".join(_MACROS),
        )
    if len(words) != len(_FIELDS) or len(text) > _LENGTH_MAX:
        raise ConfigError(
            f"a schedule has five fields, not {len(words)}",
            subject=printable(text[:_LENGTH_MAX]),
            hint="minute hour day month weekday: `0 3 * * *` is 3:00 UTC each day",
        )
    values = [_parse_field(word, *field) for word, field in zip(words, _FIELDS, strict=True)]
    minutes, hours, month_days, months, week_days = values
    cron = Cron(
        text=" ".join(words),
        minutes=minutes,
        hours=hours,
        month_days=month_days,
        months=months,
        week_days=frozenset(day % 7 for day in week_days),
        either_day=not words[2].startswith("*") and not words[4].startswith("*"),
    )
    cron.next_after(0.0)
    return cron


def _parse_field(
    word: str, name: str, least: int, most: int, names: dict[str, int]
) -> frozenset[int]:
    values: set[int] = set()
    for part in word.split(","):
        span, slash, step_text = part.partition("/")
        step = _number(step_text, name, 1, most, {}) if slash else 1
        if span == "*":
            first, last = least, most
        else:
            low, dash, high = span.partition("-")
            first = _number(low, name, least, most, names)
            last = first if not dash else _number(high, name, least, most, names)
            if slash and not dash:
                last = most
        if first > last:
            raise ConfigError(f"{first} to {last} is no range", subject=f"{name}: {part}")
        values.update(range(first, last + 1, step))
    return frozenset(values)


def _number(text: str, name: str, least: int, most: int, names: dict[str, int]) -> int:
    known = names.get(text.lower())
    if known is not None:
        return known
    if text.isascii() and text.isdecimal() and least <= int(text) <= most:
        return int(text)
    raise ConfigError(
        f"no {name}",
        subject=printable(text) or "nothing",
        hint=did_you_mean(text.lower(), names) or f"from {least} to {most}",
    )
