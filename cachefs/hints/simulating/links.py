"""Links: parts with a rate, whose users share it fairly (max-min).

A *transfer* passes over one or more links at once and moves as fast as the tightest of them lets it;
what it cannot use there, others get elsewhere. Rates change when a transfer begins or ends, and then
only among transfers that are connected to it through links; each therefore keeps how much was left, and
at which moment.
"""

import heapq
from collections.abc import Callable, Sequence
from itertools import count

NEVER = float("inf")
_CLOSE_BYTES = 1.0
"""What is left when a transfer counts as done: floating point does not end at zero."""


class Transfer:
    """Bytes on their way."""

    __slots__ = ("done", "finish", "left", "links", "rate", "since", "stamp")

    def __init__(
        self, links: tuple[int, ...], size: float, now: float, done: Callable[[], None]
    ) -> None:
        """Begin at a standstill."""
        self.links = links
        self.left = size
        self.rate = 0.0
        self.since = now
        self.finish = NEVER
        self.stamp = -1
        self.done = done

    def left_at(self, now: float) -> float:
        """Return how many bytes are still to be moved."""
        return max(self.left - self.rate * (now - self.since), 0.0)


class Links:
    """All links, by number, and what moves over them."""

    def __init__(self, rates: Sequence[float]) -> None:
        """Take rates, in bytes per second."""
        self.rates = list(rates)
        self.carried = [0.0] * len(self.rates)
        """Bytes that were sent over each link, those on their way included."""
        self._users: list[dict[Transfer, None]] = [{} for _ in self.rates]
        self._due: list[tuple[float, int, Transfer]] = []
        self._stamps = count()

    def users(self, link: int) -> int:
        """Return how many transfers use a link."""
        return len(self._users[link])

    def start(
        self, links: tuple[int, ...], size: float, now: float, done: Callable[[], None]
    ) -> Transfer:
        """Begin a transfer; ``done`` is called by :meth:`finish` when it has ended."""
        transfer = Transfer(links, size, now, done)
        for link in links:
            self._users[link][transfer] = None
            self.carried[link] += size
        self._share(links, now)
        return transfer

    def next(self) -> float:
        """Return the moment at which the next transfer ends."""
        while self._due and self._due[0][1] != self._due[0][2].stamp:
            heapq.heappop(self._due)
        return self._due[0][0] if self._due else NEVER

    def finish(self, now: float) -> None:
        """End whatever is due."""
        while self.next() <= now:
            transfer = heapq.heappop(self._due)[2]
            transfer.stamp = -1
            for link in transfer.links:
                del self._users[link][transfer]
            self._share(transfer.links, now)
            transfer.done()

    def _share(self, links: tuple[int, ...], now: float) -> None:
        """Give new rates to all that is connected through these links."""
        open_links, transfers = list(links), dict[Transfer, None]()
        seen = set(links)
        while open_links:
            for transfer in self._users[open_links.pop()]:
                if transfer not in transfers:
                    transfers[transfer] = None
                    fresh = [link for link in transfer.links if link not in seen]
                    seen.update(fresh)
                    open_links.extend(fresh)
        if transfers:
            self._fill(transfers, now)

    def _fill(self, transfers: dict[Transfer, None], now: float) -> None:
        """Raise all rates together; whoever meets a full link stays at what it has by then."""
        spare: dict[int, float] = {}
        users: dict[int, int] = {}
        for transfer in transfers:
            for link in transfer.links:
                spare[link] = self.rates[link]
                users[link] = users.get(link, 0) + 1
        rising = transfers
        while rising:
            tightest = min(users, key=lambda link: (spare[link] / users[link], link))
            rate = max(spare[tightest] / users[tightest], 0.0)
            stay = [transfer for transfer in self._users[tightest] if transfer in rising]
            for transfer in stay:
                del rising[transfer]
                self._go(transfer, rate, now)
                for link in transfer.links:
                    spare[link] -= rate
                    users[link] -= 1
                    if not users[link]:
                        del users[link]

    def _go(self, transfer: Transfer, rate: float, now: float) -> None:
        transfer.left = transfer.left_at(now)
        transfer.since = now
        if rate == transfer.rate and transfer.stamp >= 0:
            return
        transfer.rate = rate
        left = transfer.left if transfer.left > _CLOSE_BYTES else 0.0
        transfer.finish = now + left / rate if left else now
        transfer.stamp = next(self._stamps)
        heapq.heappush(self._due, (transfer.finish, transfer.stamp, transfer))
