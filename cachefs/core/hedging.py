"""Hedging: after how long a fetch counts as slow, so that a second worker is asked as well.

The delay is a quantile of recent latencies: asking twice for the slowest twentieth costs five per
cent more requests and cuts off the tail (Dean and Barroso, "The Tail at Scale", CACM 2013). Fetches
that had to be filled first say how fast the origin is, not how fast a worker is, and are left out by
the caller.
"""

from collections import deque

_WINDOW = 128
"""Latencies that are remembered: enough for a 0.95 quantile, few enough to follow a change."""
_RECOMPUTED_EVERY = 16


class Latencies:
    """A sliding window of latencies. Not safe for concurrent use."""

    def __init__(self) -> None:
        """Start without any."""
        self._recent: deque[float] = deque(maxlen=_WINDOW)
        self._sorted: list[float] = []
        self._added = 0

    def add(self, seconds: float) -> None:
        """Take a latency into account."""
        self._recent.append(seconds)
        self._added += 1
        if self._added % _RECOMPUTED_EVERY == 0 or self._added <= _RECOMPUTED_EVERY:
            self._sorted = sorted(self._recent)

    def quantile(self, share: float) -> float | None:
        """Return the latency that ``share`` of the recent ones do not exceed; ``None`` at first."""
        if not self._sorted:
            return None
        return self._sorted[min(len(self._sorted) - 1, int(share * len(self._sorted)))]

    def hedge_delay(self, *, quantile: float, seconds_min: float) -> float:
        """Return after how many seconds a fetch is slow."""
        return max(seconds_min, self.quantile(quantile) or 0.0)
