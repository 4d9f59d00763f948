"""Rate limits: token buckets that say how long to wait, and never wait themselves.

Time is given in. A bucket may go into debt: whoever asks is always promised its turn, at the moment
when the debt of all before it is paid. So callers are served in the order in which they asked, and
one that asks for more than the bucket ever holds (a block of 8 MiB at 1 MiB a second) waits for
long instead of for ever.
"""

from cachefs.errors import check

PAUSE_SECONDS_MAX = 300.0
"""Who asks for a longer pause is asked again after it: one absurd header must not end all reads."""


class TokenBucket:
    """So much per second, with a burst of at most one second's worth."""

    __slots__ = ("_burst", "_level", "_rate", "_updated")

    def __init__(self, rate: float, *, now: float, burst: float | None = None) -> None:
        """Make a full bucket.

        Args:
            rate: Units a second; 0 for no limit.
            now: The current time, in seconds.
            burst: What may be taken at once after a pause; a second's worth by default.
        """
        check(rate >= 0, "negative rate")
        self._rate = rate
        self._burst = rate if burst is None else burst
        self._level = self._burst
        self._updated = now

    def reserve(self, amount: float, *, now: float) -> float:
        """Take ``amount``, and return after how many seconds it may be used."""
        if self._rate == 0:
            return 0.0
        self._refill(now)
        self._level -= amount
        return max(0.0, -self._level / self._rate)

    def give_back(self, amount: float, *, now: float) -> None:
        """Return what was reserved and will not be used."""
        self._refill(now)
        self._level = min(self._burst, self._level + amount)

    def _refill(self, now: float) -> None:
        # A clock that stands still or is read by two threads out of order must not take away.
        elapsed = max(0.0, now - self._updated)
        self._updated = max(self._updated, now)
        self._level = min(self._burst, self._level + elapsed * self._rate)


class Pause:
    """Until when nobody may ask, because the other side said so."""

    __slots__ = ("_until",)

    def __init__(self) -> None:
        """Make one that is over."""
        self._until = float("-inf")

    def extend(self, seconds: float, *, now: float) -> None:
        """Pause for so long from now, within reason; a shorter one never ends a longer one."""
        self._until = max(self._until, now + min(seconds, PAUSE_SECONDS_MAX))

    def remaining(self, *, now: float) -> float:
        """Return how many seconds are left; 0 when it is over."""
        return max(0.0, self._until - now)
