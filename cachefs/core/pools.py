"""Pools: how many workers there shall be, and what must happen for it to be so.

A pool is a wish: a number of workers, perhaps so many of them in each zone. It says nothing of how
workers come to be. Who can start and stop them, a *provider*, compares the wish with what it has
(:func:`compare`) and does what is missing; so it does not matter how often anybody compares, or
whether the last one was killed half way.

Who leaves is chosen in one way everywhere, so that a plan says what will happen: first whoever was
named, then from the zone that has most beyond what it shall have, the newest worker first. Which
worker leaves makes no difference to how much must move; the newest has served the fewest readers.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from cachefs.core.names import WorkerId, parse_name, printable
from cachefs.errors import ConfigError, NotKnownError

WORKERS_MAX = 10_000
"""More workers than that are taken for a slip of the finger."""
_DIGITS = re.compile(r"(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """A set of workers as it shall be."""

    name: str
    wanted: int | None = None
    """How many workers; ``None`` while nobody has said."""
    wanted_by_zone: Mapping[str, int] = field(default_factory=dict)
    """Of these, at least so many in each zone."""
    least: int = 0
    """Nobody may want fewer."""
    most: int | None = None
    """Nobody may want more; ``None`` for no bound."""
    exclusive: str = ""
    """The only namespace whose datasets may be in the pool; empty for all."""
    leaving: tuple[WorkerId, ...] = ()
    """Who was named to leave, and has not left yet."""
    problem: str = ""
    """Why the provider cannot make it so; empty while it can."""
    changed_at: float = 0.0
    """Seconds since 1970; 0 if it was never changed."""
    changed_by: str = ""
    """A command, a flow's run, a policy."""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolChange:
    """What shall be different about a pool; ``None`` for what stays."""

    wanted: int | None = None
    wanted_by_zone: Mapping[str, int] | None = None
    """When ``wanted`` is given and this is not, zones do not matter any more."""
    least: int | None = None
    most: int | None = None
    unbounded: bool = False
    """Take away ``most``."""
    exclusive: str | None = None
    by: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Provided:
    """A worker that a provider runs, or is about to."""

    worker: WorkerId
    pool: str
    zone: str = ""
    leaving: bool = False
    """It is being drained or stopped already."""


@dataclass(frozen=True, slots=True)
class Difference:
    """What a provider must do so that a pool is as it shall be."""

    start: tuple[str, ...] = ()
    """A zone for each worker to start; empty for any."""
    leave: tuple[WorkerId, ...] = ()
    """Who shall be drained and stopped, in this order."""


def check_pool(pool: Pool) -> None:
    """Make sure that a pool makes sense.

    Raises:
        ConfigError: It does not.
    """
    parse_name(pool.name, kind="pool")
    for zone in pool.wanted_by_zone:
        parse_name(zone, kind="zone")
    if pool.exclusive:
        parse_name(pool.exclusive, kind="namespace")
    numbers = (pool.wanted or 0, pool.least, pool.most or 0, *pool.wanted_by_zone.values())
    if not all(0 <= number <= WORKERS_MAX for number in numbers):
        raise ConfigError(f"a number of workers is from 0 to {WORKERS_MAX}", subject=pool.name)
    if pool.most is not None and pool.least > pool.most:
        raise ConfigError(
            f"at least {pool.least} and at most {pool.most} workers: that cannot be",
            subject=pool.name,
        )
    if pool.wanted is None:
        return
    zones = sum(pool.wanted_by_zone.values())
    if zones > pool.wanted:
        raise ConfigError(
            f"the zones shall have {zones} workers, and the pool only {pool.wanted}",
            subject=pool.name,
        )
    if pool.wanted < pool.least or (pool.most is not None and pool.wanted > pool.most):
        most = "" if pool.most is None else f", at most {pool.most}"
        raise ConfigError(
            f"{workers(pool.wanted)} are out of the pool's bounds",
            subject=pool.name,
            hint=f"at least {pool.least}{most}; `cachefs pool set` changes that",
        )


def changed(pool: Pool, change: PoolChange, *, at: float) -> Pool:
    """Return a pool with a change made to it.

    Raises:
        ConfigError: The result would make no sense.
    """
    wanted_by_zone = change.wanted_by_zone
    if wanted_by_zone is None:
        wanted_by_zone = pool.wanted_by_zone if change.wanted is None else {}
    most = pool.most if change.most is None else change.most
    new = replace(
        pool,
        wanted=pool.wanted if change.wanted is None else change.wanted,
        wanted_by_zone={zone: count for zone, count in wanted_by_zone.items() if count},
        least=pool.least if change.least is None else change.least,
        most=None if change.unbounded else most,
        exclusive=pool.exclusive if change.exclusive is None else change.exclusive,
        # What stood in the way of the old wish says nothing of the new one.
        problem="",
        changed_at=at,
        changed_by=change.by,
        reason=change.reason,
    )
    check_pool(new)
    return new


def grown(pool: Pool, count: int, *, live: int, zone: str, by: str, reason: str, at: float) -> Pool:
    """Return a pool that wants so many workers more, in a zone if one is named.

    Args:
        pool: As it was.
        count: How many more.
        live: How many there are, for a pool of which nobody has said how many there shall be.
        zone: Where; empty for anywhere.
        by: Who wants it.
        reason: Why.
        at: The time.

    Raises:
        ConfigError: That is out of bounds.
    """
    _check_count(pool, count)
    by_zone = dict(pool.wanted_by_zone)
    if zone:
        by_zone[zone] = by_zone.get(zone, 0) + count
    wanted = (live if pool.wanted is None else pool.wanted) + count
    change = PoolChange(wanted=wanted, wanted_by_zone=by_zone, by=by, reason=reason)
    return changed(pool, change, at=at)


def shrunk(
    pool: Pool, leaving: Sequence[Provided], *, live: int, by: str, reason: str, at: float
) -> Pool:
    """Return a pool that some workers shall leave.

    Args:
        pool: As it was.
        leaving: Who; naming one twice, or one that leaves already, changes nothing.
        live: As for :func:`grown`.
        by: Who wants it.
        reason: Why.
        at: The time.

    Raises:
        ConfigError: That is out of bounds.
        NotKnownError: One is not of this pool.
    """
    by_zone = Counter(pool.wanted_by_zone)
    new = []
    for one in dict.fromkeys(leaving):
        if one.pool != pool.name:
            raise NotKnownError(f"it is not of the pool {pool.name}", subject=one.worker)
        if one.worker not in pool.leaving:
            new.append(one.worker)
            by_zone[one.zone] -= 1
    wanted = (live if pool.wanted is None else pool.wanted) - len(new)
    zones = {zone: count for zone, count in by_zone.items() if count > 0}
    change = PoolChange(wanted=max(0, wanted), wanted_by_zone=zones, by=by, reason=reason)
    return replace(changed(pool, change, at=at), leaving=(*pool.leaving, *new))


def compare(pool: Pool, provided: Iterable[Provided]) -> Difference:
    """Say what must happen so that a pool is as it shall be."""
    here = [one for one in provided if one.pool == pool.name]
    named = [one for one in here if one.worker in pool.leaving and not one.leaving]
    staying = [one for one in here if not one.leaving and one.worker not in pool.leaving]
    leave = [one.worker for one in named]
    if pool.wanted is None:
        return Difference((), tuple(leave))
    counts = Counter(one.zone for one in staying)
    start: list[str] = []
    for zone, count in sorted(pool.wanted_by_zone.items()):
        start += [zone] * (count - counts[zone])
    missing = pool.wanted - len(staying) - len(start)
    planned = counts + Counter(start)
    for _ in range(missing):
        zone = min(sorted(pool.wanted_by_zone) or [""], key=lambda zone: planned[zone])
        planned[zone] += 1
        start.append(zone)
    leave += choose(pool, staying, max(0, -missing))
    return Difference(tuple(start), tuple(leave))


def choose(pool: Pool, staying: Sequence[Provided], count: int) -> list[WorkerId]:
    """Choose who of a pool's workers leaves, if so many shall."""
    left = list(staying)
    chosen: list[WorkerId] = []
    for _ in range(min(count, len(left))):
        counts = Counter(one.zone for one in left)
        going = max(
            left,
            key=lambda one: (
                counts[one.zone] - pool.wanted_by_zone.get(one.zone, 0),
                _natural(one.worker),
            ),
        )
        left.remove(going)
        chosen.append(going.worker)
    return chosen


def describe(old: Pool, new: Pool) -> str:
    """Say in a phrase what is different between two states of a pool."""
    parts = []
    if old.wanted != new.wanted:
        before = "" if old.wanted is None else f"{old.wanted} → "
        parts.append(f"{before}{workers(new.wanted or 0)}")
    if old.wanted_by_zone != new.wanted_by_zone:
        zones = (f"{zone} {count}" for zone, count in sorted(new.wanted_by_zone.items()))
        parts.append(f"by zone: {', '.join(zones) or 'any'}")
    if new.leaving != old.leaving:
        names = [printable(one) for one in new.leaving if one not in old.leaving]
        parts += [f"{', '.join(names)} shall leave"] if names else []
    if (old.least, old.most) != (new.least, new.most):
        parts.append(f"at least {new.least}, at most {'any' if new.most is None else new.most}")
    if old.exclusive != new.exclusive:
        whose = f"namespace {new.exclusive} only" if new.exclusive else "any namespace"
        parts.append(f"for {whose}")
    text = "; ".join(parts) or "nothing is different"
    text = f"{text}, by {new.changed_by}" if new.changed_by else text
    return f"{text}, because {new.reason}" if new.reason else text


def workers(count: int) -> str:
    """Return the number with its word: ``1 worker``."""
    return "1 worker" if count == 1 else f"{count} workers"


def _check_count(pool: Pool, count: int) -> None:
    if not 1 <= count <= WORKERS_MAX:
        raise ConfigError(
            f"a number of workers is from 1 to {WORKERS_MAX}, not {count}", subject=pool.name
        )


def _natural(name: str) -> tuple[tuple[int, int | str], ...]:
    """Order names by the numbers in them: ``worker-10`` comes after ``worker-9``."""
    parts = _DIGITS.split(name)
    return tuple((1, int(part)) if part.isdecimal() else (0, part) for part in parts)
