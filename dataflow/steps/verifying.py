"""``verify``: what workers hold is read again, and compared with what it must be.

Blocks are read from each worker that holds them, over the wire as any reader does, and digested here. One
that is wrong is asked for again in the way in which readers complain: the worker then looks at its own
copy, drops it, and fills it anew. What comes then must be right, or the step fails, and may be retried. A
worker that sees by itself that a block's file was touched drops it when it is asked; such a block is filled
anew, too, so that in the end all that was resident is.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from cachefs.core.blocks import block_count, block_range
from cachefs.core.membership import Member
from cachefs.core.names import WorkerId, printable
from cachefs.core.ratelimits import TokenBucket
from cachefs.dataflow.copying.datasets import DataPlane
from cachefs.dataflow.ports import Cache, Observed, StepContext, StepKind
from cachefs.dataflow.records import Progress
from cachefs.dataflow.spec import kinds
from cachefs.dataflow.spec.arguments import Target, Verify
from cachefs.dataflow.spec.model import Value
from cachefs.dataflow.steps.choosing import Rate, choose, pin
from cachefs.errors import CapacityError, FlowError, IntegrityError, WorkerUnavailableError
from cachefs.ports import BlockRequest, BlockSource, FetchedBlock, FileRef
from cachefs.wire.digests import digester

_TALLY = "verified"
"""In the checkpoint."""
_NOTE_SECONDS = 2.0
_TRIES = 3
_TRY_SECONDS = 30.0
"""For one block, a fill included."""


class _Copy(NamedTuple):
    """A block as one worker holds it."""

    target: int
    file: FileRef
    block: int
    worker: WorkerId
    size: int

    @property
    def place(self) -> list[Value]:
        """Where it comes in the order in which copies are read."""
        return [self.target, self.file.entry.path, self.block, self.worker]


@dataclass(slots=True)
class _Tally:
    """What was found so far."""

    after: list[Value] = field(default_factory=list)
    """The place of the copy that was read last: a successor goes on after it, whatever came and went."""
    checked: int = 0
    bytes: int = 0
    bad: int = 0
    """Were served wrong, and filled anew."""
    gone: int = 0
    """Were not there when they were asked for, because the worker had found them wrong or evicted them,
    and were filled anew."""
    over: bool = False

    @classmethod
    def of(cls, context: StepContext) -> "_Tally":
        return cls(**context.checkpoint().get(_TALLY, {}))

    def counts(self) -> dict[str, Value]:
        return {
            "checked": self.checked,
            "bytes": self.bytes,
            "bad": self.bad,
            "gone": self.gone,
        }

    def note(self, context: StepContext) -> None:
        noted = {**self.counts(), "after": self.after, "over": self.over}
        context.note({**context.checkpoint(), _TALLY: noted})


class VerifyStep(StepKind):
    """Done when so much of what is resident was read, and all of it was right in the end."""

    def __init__(self, cache: Cache, plane: DataPlane) -> None:
        """Look at a cache, over its data plane."""
        self._cache = cache
        self._plane = plane
        self._digest = digester(plane.cluster.digest)

    def observe(self, context: StepContext, arguments: Mapping[str, Value]) -> Observed:
        """Look at what was noted."""
        del arguments
        tally = _Tally.of(context)
        progress = Progress(done=tally.bytes, total=tally.bytes if tally.over else 0)
        return Observed(tally.over, progress, tally.counts() if tally.over else {})

    def apply(self, context: StepContext, arguments: Mapping[str, Value]) -> None:
        """Read, from where a predecessor had come to."""
        wanted: Verify = kinds.check("verify", arguments)
        copies = list(self._copies(context, wanted))
        if not copies:
            raise FlowError("no worker holds any of it", subject=context.step)
        tally = _Tally.of(context)
        left = [copy for copy in _spread(copies, wanted.fraction) if copy.place > tally.after]
        total = tally.bytes + sum(copy.size for copy in left)
        bucket = TokenBucket(wanted.rate, now=context.runtime.monotonic())
        rate = Rate()
        noted_at = context.runtime.monotonic()
        with self._plane.blocks(context.runtime) as source:
            for copy in left:
                context.sleep(bucket.reserve(copy.size, now=context.runtime.monotonic()))
                self._check(context, source, copy, tally)
                tally.after = copy.place
                now = context.runtime.monotonic()
                context.report(
                    Progress(done=tally.bytes, total=total, rate=rate.note(now, tally.bytes))
                )
                if now - noted_at >= _NOTE_SECONDS:
                    tally.note(context)
                    noted_at = now
        tally.over = True
        tally.note(context)

    def compensate(
        self, context: StepContext, arguments: Mapping[str, Value], how: Mapping[str, Value]
    ) -> None:
        """There is nothing to undo."""

    def _copies(self, context: StepContext, wanted: Verify) -> Iterator[_Copy]:
        targets = wanted.of
        if wanted.dataset is not None:
            targets = (Target(dataset=wanted.dataset, paths=wanted.paths, zone=wanted.zone),)
        block_size = self._plane.cluster.block_size
        for number, target in enumerate(targets):
            files = choose(self._cache, context, target.dataset, target.paths)
            pin(context, target.dataset, files.version)
            zone = wanted.zone or target.zone
            members = {
                member.worker for member in self._cache.view().members if zone in ("", member.zone)
            }
            for entry in files.files:
                file = files.resolved.file(entry)
                held = self._cache.holders(file)
                for index in range(block_count(entry.size, block_size)):
                    size = block_range(index, entry.size, block_size).length
                    for worker in sorted(members & held.keys()):
                        if held[worker] >> index & 1:
                            yield _Copy(number, file, index, worker, size)

    def _check(self, context: StepContext, source: BlockSource, copy: _Copy, tally: _Tally) -> None:
        into = memoryview(bytearray(copy.size))
        fetched = self._fetch(context, source, copy, into, mend=False)
        if fetched is None and self._member(copy.worker) is None:
            return
        if fetched is None or not self._is_right(copy, fetched, into):
            subject = f"block {copy.block} of {printable(copy.file.entry.path)} on {copy.worker}"
            # A worker that met a rotten block by itself has dropped it, and does not have it any more.
            if fetched is None:
                tally.gone += 1
            else:
                tally.bad += 1
            found = "gone" if fetched is None else "wrong"
            context.tell(f"{subject} was {found}, and is filled anew")
            fetched = self._fetch(context, source, copy, into, mend=True)
            if fetched is None or not self._is_right(copy, fetched, into):
                raise IntegrityError("it is wrong, also after it was filled anew", subject=subject)
        tally.checked += 1
        tally.bytes += copy.size

    def _is_right(self, copy: _Copy, fetched: FetchedBlock, data: memoryview) -> bool:
        known = self._cache.digests(copy.file)[copy.block]
        return self._digest(data) == fetched.digest == (known or fetched.digest)

    def _fetch(
        self,
        context: StepContext,
        source: BlockSource,
        copy: _Copy,
        into: memoryview,
        *,
        mend: bool,
    ) -> FetchedBlock | None:
        """Return a block as its holder has it; ``None`` if it does not, or has left."""
        for attempt in range(1, _TRIES + 1):
            context.sleep(0.0)
            member = self._member(copy.worker)
            if member is None:
                return None
            try:
                fetched = source.fetch(
                    member,
                    BlockRequest(
                        file=copy.file,
                        index=copy.block,
                        into=into,
                        only_cached=not mend,
                        verify=mend,
                        deadline=context.runtime.monotonic() + _TRY_SECONDS,
                        cancel=context.cancel,
                    ),
                )
                return fetched if isinstance(fetched, FetchedBlock) else None
            except (WorkerUnavailableError, CapacityError):
                context.sleep(0.0)
                if attempt == _TRIES:
                    raise
            context.sleep(0.5 * attempt)
        return None

    def _member(self, worker: WorkerId) -> Member | None:
        return next(
            (member for member in self._cache.view().members if member.worker == worker), None
        )


def _spread(copies: Sequence[_Copy], fraction: float) -> list[_Copy]:
    """Return those that are read: evenly spread, and at least one."""
    wanted = min(len(copies), max(round(len(copies) * fraction), 1))
    return [copies[at * len(copies) // wanted] for at in range(wanted)]
