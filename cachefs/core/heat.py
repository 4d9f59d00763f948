"""Heat: files that many read at once gain replicas, and lose them when they cool down.

The heat of a file is the rate at which its bytes are read from workers over the network, smoothed with
a half-life. One worker's link serves so many bytes a second; a file whose heat takes more than
``high`` of the links of its owners gains a replica, and one that would still take less than ``low``
with a replica fewer loses one. Between the two marks nothing changes, so that a file at the edge does not
move back and forth: each move is a copy of the whole file.
"""

from dataclasses import dataclass

from cachefs.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatPolicy:
    """When a file is hot."""

    link_bytes: float
    """What one worker can serve, in bytes a second."""
    high: float = 0.5
    """Of the owners' links; beyond it, one replica more."""
    low: float = 0.2
    """Of what the links would be with one fewer; below it, one replica less."""
    replicas_max: int = 8
    half_life_seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class Heat:
    """How hot a file was, and when that was."""

    rate: float = 0.0
    """Bytes a second."""
    at: float = 0.0
    """On a monotonic clock."""


def check_policy(policy: HeatPolicy) -> None:
    """Make sure that a policy makes sense.

    Raises:
        ConfigError: It does not.
    """
    if policy.link_bytes <= 0 or policy.half_life_seconds <= 0 or policy.replicas_max < 1:
        raise ConfigError("a link, a half-life and a number of replicas are positive")
    if not 0 < policy.low < policy.high:
        raise ConfigError("the low mark is above 0 and below the high mark")


def warmed(heat: Heat, size: int, policy: HeatPolicy, *, at: float) -> Heat:
    """Return the heat after bytes were read.

    Args:
        heat: As it was.
        size: Bytes read since then.
        policy: Gives the half-life.
        at: Now, on the same clock.
    """
    seconds = max(0.0, at - heat.at)
    if seconds == 0.0:
        return Heat(heat.rate + size / policy.half_life_seconds, at)
    kept = 0.5 ** (seconds / policy.half_life_seconds)
    return Heat(heat.rate * kept + size / seconds * (1 - kept), at)


def replicas(policy: HeatPolicy, rate: float, *, base: int, now: int, workers: int) -> int:
    """Return how many replicas a file should have, at most one more or less than now.

    Args:
        policy: The marks.
        rate: The file's heat, in bytes a second.
        base: What its dataset asks for: never fewer.
        now: What it has.
        workers: How many there are in the pool: never more than these.
    """
    most = max(base, min(policy.replicas_max, workers))
    if now < base or now > most:
        return min(max(now, base), most)
    if rate > policy.high * now * policy.link_bytes:
        return min(now + 1, most)
    if now > base and rate < policy.low * (now - 1) * policy.link_bytes:
        return now - 1
    return now
