"""Fitting: whether a node can take a member, how many of them, and if none now, when.

One node at a time, device by device; :mod:`.slots` does the same for the whole fleet at once, and a
test holds the two together. Each accelerator offers *places*: some now, and some from the moment on at
which what runs there is expected to end. A member that wants several whole accelerators fills as many
places; one that wants a fraction or a MIG slice fills one of the several that a device may offer.

What has been promised to others (:mod:`.reserving`) comes first: their members are put onto the node
before anyone else's, on the devices that will be free soonest, and stay for as long as their jobs are
expected to run. So what is kept for one job counts in the waiting time of all others.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from cachefs.core.hints.answer import Fit
from cachefs.core.hints.asking import GANG_LIMIT, WantedGpu
from cachefs.core.hints.nodes import GIB, NEVER, Gpu, Node

OVERDUE_SECONDS = 15.0
"""What runs longer than expected is expected to run for so much longer, and as long again as it is late."""
MEMORY_SLACK = 0.95
"""Of the memory that is asked for, this is enough: what is sold as 80 GiB has 79.6, and its driver takes some."""
ROUNDING = 1e-6
"""Shares of an accelerator that differ by less are equal."""


class Taken(NamedTuple):
    """What has been promised of a node."""

    wanted: WantedGpu | None
    members: int
    until: float
    """The moment at which those members' job is expected to end; :data:`~.nodes.NEVER` if nobody knows."""


class Places(NamedTuple):
    """What one accelerator offers to members of a kind."""

    now: int = 0
    later: int = 0
    """How many more, once what runs there has ended."""
    moment: float = NEVER
    """When that is expected to be."""
    share: float = 0.0
    """How much of it is free, 0 to 1; 0 if it is cut into slices."""


def release(predicted: float, now: float) -> float:
    """Return the moment at which an accelerator will be free.

    What is overdue is expected to run on for as long as it is late already, and fifteen seconds.
    """
    return predicted if predicted > now else now + OVERDUE_SECONDS + (now - predicted)


def needed(wanted: WantedGpu | None) -> int:
    """Return how many places one member fills."""
    return wanted.count if wanted is not None and wanted.count > 1 else 1


def wants_none(wanted: WantedGpu | None) -> bool:
    """Return whether a member needs no accelerator at all."""
    return wanted is None or (
        wanted.count == 0 and wanted.fraction is None and wanted.mig_profile is None
    )


def places(node: Node, wanted: WantedGpu, taken: Iterable[Taken] = ()) -> list[Places]:
    """Return what each accelerator of a node offers, after what has been promised."""
    devices = [_Device.of(gpu) for gpu in node.gpus]
    for each in taken:
        if each.wanted is not None and not wants_none(each.wanted):
            for _ in range(each.members):
                _take(devices, each.wanted, each.until)
    return [device.offer(wanted) for device in devices]


def slot_seconds(
    offered: Sequence[Places], wanted: WantedGpu, *, members: int = 1, now: float
) -> float:
    """Return the seconds until so many members could start, infinite if they never can."""
    moments: list[float] = []
    for each in offered:
        moments += [now] * each.now + [release(each.moment, now)] * each.later
    wait = needed(wanted) * members
    return sorted(moments)[wait - 1] - now if wait <= len(moments) else NEVER


def fit(node: Node, wanted: WantedGpu | None, *, taken: Sequence[Taken] = ()) -> Fit:
    """Return whether a node could take members now, and why not, for a person to read."""
    idle = sum(each.now for each in places(node, WantedGpu()))
    if not node.schedulable:
        return Fit(0, idle, "it takes no new work")
    if wanted is None or wants_none(wanted):
        return Fit(GANG_LIMIT, idle)
    offered = places(node, wanted, taken)
    slots = sum(each.now for each in offered) // needed(wanted)
    if slots:
        return Fit(slots, idle, numa=_numa(node, offered, wanted))
    return Fit(0, idle, next(_reasons(node, wanted, taken)))


@dataclass(slots=True)
class _Device:
    """An accelerator, and what is left of it."""

    gpu: Gpu
    share: float
    memory: float
    moment: float
    slices: Counter[str] = field(default_factory=Counter)
    slices_used: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, gpu: Gpu) -> "_Device":
        share = 0.0 if gpu.partitioned else 1.0 - gpu.used
        memory = gpu.memory_free_bytes
        if memory is None:
            memory = round(gpu.memory_bytes * (1.0 - gpu.used))
        moment = NEVER if gpu.free_at is None else gpu.free_at
        free = Counter(each.lower() for each in gpu.mig)
        return cls(gpu, share, memory, moment, free, Counter(each.lower() for each in gpu.mig_used))

    def offer(self, wanted: WantedGpu) -> Places:
        """Return the places for members of a kind."""
        if not suits(self.gpu, wanted):
            return Places(share=self.share)
        if wanted.mig_profile is not None:
            profile = wanted.mig_profile.lower()
            return Places(self.slices[profile], self.slices_used[profile], self.moment)
        if self.gpu.partitioned:
            return Places()
        if wanted.fraction is None:
            now = int(self.share > 1 - ROUNDING and self.memory >= _bytes_needed(wanted))
            return Places(now, 1 - now, self.moment, self.share)
        now = _fractions(wanted, self.share, self.memory)
        whole = _fractions(wanted, 1.0, self.gpu.memory_bytes)
        return Places(now, max(whole - now, 0), self.moment, self.share)

    def take(self, wanted: WantedGpu, until: float, *, at_once: bool) -> None:
        """Put one member's part here: at once, or when what runs here has ended."""
        if wanted.mig_profile is not None:
            self._take_slice(wanted.mig_profile.lower(), until, at_once=at_once)
            return
        full = self.memory >= self.gpu.memory_bytes * MEMORY_SLACK
        busy = self.share < 1 - ROUNDING or not full
        self.moment = max(self.moment, until) if busy else until
        if wanted.fraction is not None and at_once:
            self.share -= wanted.fraction
            self.memory -= _bytes_needed(wanted) or self.gpu.memory_bytes * wanted.fraction
        else:
            self.share = self.memory = 0.0

    def _take_slice(self, profile: str, until: float, *, at_once: bool) -> None:
        if at_once:
            busy = self.slices_used.total() > 0
            self.moment = max(self.moment, until) if busy else until
            self.slices[profile] -= 1
            self.slices_used[profile] += 1
        elif self.slices_used[profile] > 1:
            self.slices_used[profile] -= 1
        else:
            self.moment = max(self.moment, until)


def suits(gpu: Gpu, wanted: WantedGpu) -> bool:
    """Return whether an accelerator is of the kind that is wanted, however busy it is."""
    if wanted.model is not None and wanted.model.lower() not in gpu.model.lower():
        return False
    # A slice has the memory that its profile says.
    return wanted.mig_profile is not None or gpu.memory_bytes >= _bytes_needed(wanted)


def _bytes_needed(wanted: WantedGpu) -> float:
    return (wanted.memory_gib or 0.0) * GIB * MEMORY_SLACK


def _fractions(wanted: WantedGpu, share: float, memory: float) -> int:
    """Return how many fractions there is room for."""
    count = int(share / (wanted.fraction or 1.0) + ROUNDING)
    need = _bytes_needed(wanted)
    return max(min(count, int(memory / need + ROUNDING)) if need else count, 0)


def _take(devices: Sequence[_Device], wanted: WantedGpu, until: float) -> None:
    """Put one member of somebody else's onto a node; one that cannot be there takes nothing."""
    offers = [(device, device.offer(wanted)) for device in devices]
    free = [device for device, offered in offers if offered.now]
    # The fullest device that has room is what schedulers of fractions take; whole ones are all alike.
    free.sort(key=lambda device: device.share)
    # What was promised when its end was known, and is not any more, is promised no longer.
    later = [
        pair for pair in offers if not pair[1].now and pair[1].later and pair[1].moment < NEVER
    ]
    later.sort(key=lambda pair: pair[1].moment)
    chosen = [(device, True) for device in free] + [(device, False) for device, _ in later]
    if len(chosen) >= needed(wanted):
        for device, at_once in chosen[: needed(wanted)]:
            device.take(wanted, until, at_once=at_once)


def _numa(node: Node, offered: Sequence[Places], wanted: WantedGpu) -> int | None:
    """Return the NUMA node that a member's accelerators would be of, if it is one."""
    free = [(gpu, each) for gpu, each in zip(node.gpus, offered, strict=True) if each.now]
    if needed(wanted) == 1:
        return min(free, key=lambda pair: (pair[1].share, pair[0].index))[0].numa
    counts = Counter(gpu.numa for gpu, _ in free)
    enough = [numa for numa, count in counts.items() if count >= needed(wanted)]
    return min(enough, key=lambda numa: (counts[numa], numa), default=None)


def _reasons(node: Node, wanted: WantedGpu, taken: Sequence[Taken]) -> Iterator[str]:
    """Yield why there is no place now, what will never change first."""
    yield from _unsuited(node, wanted)
    idle = places(node, wanted)
    free, every = sum(each.now for each in idle), sum(each.now + each.later for each in idle)
    kind = wanted.model or "accelerators"
    if wanted.mig_profile is not None:
        if every == 0:
            yield f"it has no slice {wanted.mig_profile}"
    elif all(gpu.partitioned for gpu in node.gpus):
        yield "its accelerators are cut into slices"
    elif every < needed(wanted):
        yield f"it has {every} {kind}, {needed(wanted)} are wanted"
    if taken and free >= needed(wanted):
        yield "what is free is kept for other jobs"
    if wanted.mig_profile is not None:
        yield f"no slice {wanted.mig_profile} is free"
    if wanted.fraction is not None:
        most = max(each.share for each in idle)
        yield f"no accelerator has {wanted.fraction:g} of it free, the emptiest has {most:g}"
    yield f"{free} of {every} {kind} are free, {needed(wanted)} are wanted"


def _unsuited(node: Node, wanted: WantedGpu) -> Iterator[str]:
    """Yield why none of a node's accelerators is of the kind that is wanted."""
    if not node.gpus:
        yield "it has no accelerators"
    if not any(suits(gpu, WantedGpu(model=wanted.model)) for gpu in node.gpus):
        models = ", ".join(sorted({gpu.model or "of no known model" for gpu in node.gpus}))
        yield f"its accelerators are {models}, {wanted.model} is wanted"
    if not any(suits(gpu, wanted) for gpu in node.gpus):
        most = max(gpu.memory_bytes for gpu in node.gpus) / GIB
        yield f"its accelerators have {most:.0f} GiB, {wanted.memory_gib:g} are wanted"
