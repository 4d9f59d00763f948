"""Links: when steps end that are under way, if those that move bytes over one link share it evenly.

A link's own clock counts the seconds of work that each of its steps was given. It runs as fast as time while one
step is on the link, half as fast while there are two. So a step ends when the link's clock has come from where it
began to its seconds further, whoever else comes and goes; and each event costs no more than a heap does.
"""

import heapq
from dataclasses import dataclass, field


@dataclass(slots=True)
class _Link:
    clock: float = 0.0
    at: float = 0.0
    """When the clock stood there."""
    ends: list[tuple[float, int]] = field(default_factory=list)
    """By the link's clock; and which step."""

    def turn(self, now: float) -> None:
        """Let its clock run until now."""
        if self.ends:
            self.clock += (now - self.at) / len(self.ends)
        self.at = now

    @property
    def next_at(self) -> float:
        """When its first step ends, if nobody comes."""
        return self.at + (self.ends[0][0] - self.clock) * len(self.ends)


class UnderWay:
    """Steps that have begun and not ended, by numbers."""

    def __init__(self) -> None:
        """Begin with none."""
        self._alone: list[tuple[float, int]] = []
        self._links: dict[str, _Link] = {}

    def begin(self, number: int, *, now: float, seconds: float, link: str) -> None:
        """Have a step begin.

        Args:
            number: Which.
            now: When.
            seconds: How long it takes, alone on its link.
            link: What it shares with others; empty for nothing.
        """
        if not link:
            heapq.heappush(self._alone, (now + seconds, number))
            return
        shared = self._links.setdefault(link, _Link())
        shared.turn(now)
        heapq.heappush(shared.ends, (shared.clock + seconds, number))

    def next_at(self) -> float | None:
        """Return when the next one ends; ``None`` if none is under way."""
        return self._first()[0] if self else None

    def end(self) -> tuple[float, int]:
        """Have the next one end; return when, and which."""
        at, number, shared = self._first()
        if shared is None:
            heapq.heappop(self._alone)
        else:
            shared.turn(at)
            shared.clock, _ = heapq.heappop(shared.ends)
            if not shared.ends:
                shared.clock = 0.0
        return at, number

    def __bool__(self) -> bool:
        """Say whether any is under way."""
        return bool(self._alone) or any(link.ends for link in self._links.values())

    def _first(self) -> tuple[float, int, _Link | None]:
        found: list[tuple[float, int, _Link | None]] = [
            (link.next_at, link.ends[0][1], link) for link in self._links.values() if link.ends
        ]
        if self._alone:
            found.append((*self._alone[0], None))
        return min(found, key=lambda one: one[:2])
