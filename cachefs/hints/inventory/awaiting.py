"""Awaiting: who has what of a file, and who will have it by when."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from cachefs.core.blocks import FileVersionId
from cachefs.core.hints.spreading import AWAITED, Copy
from cachefs.core.names import WorkerId
from cachefs.core.residency import Holding
from cachefs.hints.inventory.hearing import Heard

Recorded = Callable[[Iterable[FileVersionId]], Sequence[Iterable[Holding]]]


class Awaiting:
    """Implements :class:`.spreads.Holdings`. Safe from any thread; but one alone learns."""

    def __init__(self, recorded: Recorded) -> None:
        """Know of nothing that is awaited.

        Args:
            recorded: Returns what residency has recorded of file versions.
        """
        self._recorded = recorded
        self._masks: Mapping[FileVersionId, tuple[Copy, ...]] = {}
        self._said: dict[WorkerId, Heard] = {}
        self.arrivals: Mapping[WorkerId, Mapping[FileVersionId, float]] = {}
        """The moments at which what each worker awaits is there; replaced whenever one is another."""

    def copies(self, names: Sequence[FileVersionId]) -> Sequence[Iterable[Copy]]:
        """Return who holds and awaits what of each file version."""
        masks = self._masks
        return [
            (*(Copy(each.worker, each.tier, each.mask) for each in held), *masks.get(name, ()))
            for name, held in zip(names, self._recorded(names), strict=True)
        ]

    def awaited(self) -> Collection[FileVersionId]:
        """Return what is awaited by anybody."""
        return self._masks.keys()

    def learn(self, heard: Mapping[WorkerId, Heard]) -> frozenset[FileVersionId]:
        """Take in what workers say; return the file versions that are awaited otherwise than before."""
        changed = {worker for worker, each in heard.items() if self._said.get(worker) is not each}
        changed |= self._said.keys() - heard.keys()
        if not any(
            each is not None and each.traffic.awaited
            for worker in changed
            for each in (self._said.get(worker), heard.get(worker))
        ):
            self._said = dict(heard)
            return frozenset()
        self._said = dict(heard)
        masks: dict[FileVersionId, tuple[Copy, ...]] = {}
        arrivals: dict[WorkerId, dict[FileVersionId, float]] = {}
        for worker, each in heard.items():
            for name, mask, seconds in each.traffic.awaited:
                masks[name] = (*masks.get(name, ()), Copy(worker, AWAITED, mask))
                arrivals.setdefault(worker, {})[name] = each.at + seconds
        before, self._masks, self.arrivals = self._masks, masks, arrivals
        return frozenset(
            name for name in before.keys() | masks.keys() if before.get(name) != masks.get(name)
        )
