"""The graph of a flow's steps: what needs what, in which order they can be, and whether they can at all."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence


class Graph:
    """Steps by id, each with those that it needs. Unknown needs are left out."""

    def __init__(self, needs: Mapping[str, Sequence[str]]) -> None:
        """Take what each step needs."""
        self.needs = {
            step: tuple(dict.fromkeys(need for need in wanted if need in needs))
            for step, wanted in needs.items()
        }
        self.dependants: dict[str, list[str]] = {step: [] for step in needs}
        for step, wanted in self.needs.items():
            for need in wanted:
                self.dependants[need].append(step)
        self._bits = {step: 1 << index for index, step in enumerate(needs)}
        self._above: dict[str, int] | None = None

    def order(self) -> tuple[str, ...]:
        """Return the steps so that each comes after what it needs; those on a cycle are missing."""
        open_needs = {step: len(wanted) for step, wanted in self.needs.items()}
        ready = deque(step for step, count in open_needs.items() if not count)
        order = []
        while ready:
            step = ready.popleft()
            order.append(step)
            for below in self.dependants[step]:
                open_needs[below] -= 1
                if not open_needs[below]:
                    ready.append(below)
        return tuple(order)

    def cycles(self) -> Iterator[tuple[str, ...]]:
        """Yield cycles, one for each knot of steps that wait for each other, each from its first step."""
        ordered = set(self.order())
        rest = [step for step in self.needs if step not in ordered]
        seen: set[str] = set()
        for start in rest:
            path: dict[str, int] = {}
            step = start
            while step not in path and step not in seen:
                path[step] = len(path)
                # Each step that is left over needs another that is: else it would have been ordered.
                step = next(need for need in self.needs[step] if need not in ordered)
            if step in path:
                yield tuple(path)[path[step] :]
            seen.update(path)

    def is_needed(self, need: str, by: str) -> bool:
        """Say whether a step needs another, directly or through others."""
        if self._above is None:
            # A bit for each step: of 10,000 steps these are 12 MB, computed in a moment.
            self._above = {}
            for step in self.order():
                above = 0
                for one in self.needs[step]:
                    above |= self._above[one] | self._bits[one]
                self._above[step] = above
        return bool(self._above.get(by, 0) & self._bits.get(need, 0))
