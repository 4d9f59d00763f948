"""Backoff: how long to wait before asking again.

The wait doubles, or grows by another factor, from one attempt to the next, and is drawn evenly between
nothing and that ("full jitter"): many clients that failed together then come back spread out, instead of
together again. Randomness is given in as a number, so that the same draws give the same waits.
"""

from dataclasses import dataclass

WAIT_SECONDS_MAX = 20.0
"""The doubling ends here: beyond it, the reader's own deadline has passed anyway."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """How often, and after which waits, something is tried."""

    attempts_limit: int
    """How often it is tried in all, the first time included."""
    first_seconds: float
    """The longest wait before the second attempt."""
    wait_seconds_max: float = WAIT_SECONDS_MAX
    """No drawn wait is longer."""
    factor: float = 2.0
    """By which the longest wait grows from one attempt to the next."""

    def wait_after(
        self, attempt: int, *, draw: float, retry_after_seconds: float | None = None
    ) -> float | None:
        """Return how long to wait after a failed attempt, or ``None`` to give up.

        What the other side asked for (``Retry-After``) is a lower bound: the jitter comes on top,
        or all that were told the same would come back in the same moment.

        Args:
            attempt: Which one failed; the first is 1.
            draw: A random number from 0 to 1.
            retry_after_seconds: How long the other side asked us to wait, if it did.
        """
        if attempt >= self.attempts_limit:
            return None
        # The exponent is bounded, because a float overflows after some thousand attempts.
        ceiling = min(
            self.wait_seconds_max, self.first_seconds * self.factor ** min(attempt - 1, 60)
        )
        return (retry_after_seconds or 0.0) + draw * ceiling
