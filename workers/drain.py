"""Draining: a worker hands over what it holds, and then leaves, at no cost to the origin.

When a drain begins, the coordinator has marked the worker as draining: it owns nothing any more, and
goes on serving. The plan is made from what is resident here and from the placement without us: every
block that one of its new owners lacks is to be handed over. Nothing is pushed. The new owners are
asked to *warm* those blocks, and a warm-up asks peers first, which a draining member is.

Then we ask the new owners what they hold until they hold all of it. Only what they say counts, so it
does not matter which of the messages was lost, or who else gave them a block meanwhile. They are
asked for many files at once, and several of them at a time. A drain that makes no progress for ``STALL_SECONDS`` fails and says why; it can be begun again.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple, TypeVar

from cachefs.core import placement
from cachefs.core.blocks import BlockId, FileVersionId, block_count
from cachefs.core.manifest import VersionId
from cachefs.core.membership import Member
from cachefs.core.names import DatasetName, WorkerId
from cachefs.core.residency import decode_mask, encode_mask, indexes, mask_bytes
from cachefs.errors import (
    CacheFSError,
    ClusterError,
    ConflictError,
    DeadlineError,
    NotKnownError,
)
from cachefs.ports import FileRef, Runtime
from cachefs.transport.control import ControlChannel
from cachefs.wire import messages
from cachefs.wire.proto import cachefs_pb2 as pb
from cachefs.wire.proto import cachefs_pb2_grpc as rpc
from cachefs.workers.knowledge import Knowledge
from cachefs.workers.storage.store import TieredStore

HANDOVER_BYTES_RATE = 200 * 1024 * 1024
"""Bytes a second that one new owner is assumed to take, for the estimate of a plan."""
STALL_SECONDS = 60.0
"""A drain without progress for so long has failed."""
POLL_SECONDS = 1.0
"""How often the new owners are asked what they hold, unless asking takes long."""
ASK_SECONDS = 5.0
"""How often they are asked to warm what they lack: a message may have been lost."""
TOLD_SECONDS = 30.0
"""A worker that is drained leaves once somebody was told so, or after so long."""
METADATA_SECONDS = 10.0
"""Longest wait to learn what a resident file is."""
QUESTION_FILES = 5000
"""File versions in one question: 100 kB, and milliseconds of the other worker's time."""
WANTED_FILES = 100_000
"""File versions in one request to warm: 5 MB, a third of what a message may have."""
QUESTIONS_LIMIT = 8
"""Questions at once; an answer is mostly waited for, so they need not be fewer than cores."""

_log = logging.getLogger("cachefs.worker")
T = TypeVar("T")


@dataclass(slots=True)
class _Share:
    """What one new owner must still take: a mask for each file."""

    member: Member
    files: dict[FileVersionId, tuple[FileRef, int]] = field(default_factory=dict)


class _Question(NamedTuple):
    """What some file versions are asked for with: their new owner, and the way to it."""

    share: _Share
    channel: ControlChannel
    file_versions: tuple[FileVersionId, ...]


@dataclass(frozen=True, slots=True)
class DrainProgress:
    """What is left to hand over."""

    blocks: int
    size: int
    seconds: float
    """Estimated."""
    done: bool


class Drain:
    """Plans and carries out a worker's own drain. Safe from any thread."""

    def __init__(
        self,
        runtime: Runtime,
        store: TieredStore,
        knowledge: Knowledge,
        *,
        own: WorkerId,
        block_size: int,
        settle_seconds: float,
        open_channel: Callable[[str], ControlChannel],
        leave: Callable[[], None],
    ) -> None:
        """Prepare.

        Args:
            runtime: For its clock and a thread.
            store: What is resident here.
            knowledge: The members, and what the resident files are.
            own: This worker.
            block_size: The cluster's.
            settle_seconds: How long the others may take to hear that this worker is draining; before
                that they would not ask it for blocks that it does not own.
            open_channel: Opens a channel to a worker's control server.
            leave: Called once everything is handed over.
        """
        self._runtime = runtime
        self._store = store
        self._knowledge = knowledge
        self._own = own
        self._block_size = block_size
        self._settle_seconds = settle_seconds
        self._open_channel = open_channel
        self._leave = leave
        self._changed = runtime.condition()
        self._left: DrainProgress | None = None
        self._failure: CacheFSError | None = None
        self._running = False
        self._told = False
        self._closed = False

    @property
    def begun(self) -> bool:
        """Whether a drain runs or has ended."""
        return self._running or (self._left is not None and self._left.done)

    def plan(self) -> DrainProgress:
        """Return what a drain would hand over if it began now.

        Raises:
            ConflictError: There is nobody to hand over to.
            ClusterError: Somebody who must be asked does not answer.
        """
        return self._progress(self._shares())

    def begin(self) -> DrainProgress:
        """Begin to drain unless that runs already; return what is left.

        Raises:
            CacheFSError: The last drain failed; the next call begins anew.
        """
        with self._changed:
            failure, self._failure = self._failure, None
            if failure is not None:
                raise failure
            if self.begun:
                if self._left is not None:
                    self._told = self._told or self._left.done
                    self._changed.notify_all()
                    return self._left
            else:
                self._running = True
                self._left = None
                self._runtime.start("drain", self._run)
        return self.plan() if self._left is None else self._left

    def close(self) -> None:
        """Stop a drain that runs."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _run(self) -> None:
        failure: CacheFSError | None = None
        try:
            self._hand_over()
        except CacheFSError as error:
            failure = error
            _log.warning("the drain failed", extra={"failure": str(error)})
        finally:
            with self._changed:
                self._running = False
                self._failure = failure

    def _hand_over(self) -> None:
        with self._changed:
            self._changed.wait(self._settle_seconds)
        shares = self._shares()
        least, moved_at = None, self._runtime.monotonic()
        asked_at = moved_at - ASK_SECONDS
        pause = 0.0
        while True:
            progress = self._progress(shares)
            with self._changed:
                self._left = progress
                if self._closed:
                    return
            if not progress.blocks:
                break
            now = self._runtime.monotonic()
            if least is None or progress.blocks < least:
                least, moved_at = progress.blocks, now
            elif now - moved_at > STALL_SECONDS:
                waiting = ", ".join(share.member.worker for share in shares if share.files)
                raise DeadlineError("the drain makes no progress", hint=f"waiting for {waiting}")
            if now - asked_at >= ASK_SECONDS:
                asked_at = now
                for share in shares:
                    self._ask(share)
            with self._changed:
                self._changed.wait(max(POLL_SECONDS, pause))
            # The members may have changed, and blocks may have been evicted here meanwhile.
            began = self._runtime.monotonic()
            shares = self._shares()
            pause = self._runtime.monotonic() - began
        _log.info("drained")
        self._leave_once_told()

    def _leave_once_told(self) -> None:
        """Leave; but who asks through the coordinator finds us only while we are a member."""
        deadline = self._runtime.monotonic() + TOLD_SECONDS
        with self._changed:
            self._left = DrainProgress(0, 0, 0.0, done=True)
            while not (self._told or self._closed) and self._runtime.monotonic() < deadline:
                self._changed.wait(TOLD_SECONDS)
            if self._closed:
                return
        self._runtime.sleep(POLL_SECONDS)
        self._leave()

    def _shares(self) -> list[_Share]:
        """Return what each new owner lacks of what is here."""
        others = [
            member
            for member in self._knowledge.view(deadline=0.0).members
            if member.worker != self._own
        ]
        shares = {member.worker: _Share(member) for member in others}
        for resident in self._store.residency():
            try:
                file = self._file(resident.dataset, resident.version, resident.file_version)
            except NotKnownError:
                continue  # nobody wants that version any more
            for index in indexes(resident.resident):
                block = BlockId(resident.file_version, index)
                owners = placement.owners(block, others, pool=file.pool, replicas=file.replicas)
                if not owners:
                    raise ConflictError(
                        "nobody else is there to take the blocks",
                        subject=f"pool {file.pool}",
                        hint="add a worker first, or stop this one without draining it",
                    )
                for owner in owners:
                    files = shares[owner.worker].files
                    _, mask = files.get(resident.file_version, (file, 0))
                    files[resident.file_version] = (file, mask | 1 << index)
        self._subtract(share for share in shares.values() if share.files)
        return [share for share in shares.values() if share.files]

    def _file(
        self, dataset: DatasetName, version: VersionId, file_version: FileVersionId
    ) -> FileRef:
        deadline = self._runtime.monotonic() + METADATA_SECONDS
        return self._knowledge.file(dataset, version, file_version, deadline=deadline)

    def _subtract(self, shares: Iterable[_Share]) -> None:
        """Take away what the new owners hold already."""
        with ExitStack() as stack:
            questions: deque[_Question] = deque()
            for share in shares:
                channel = stack.enter_context(self._open_channel(share.member.control_address))
                for names in _batches(share.files, QUESTION_FILES):
                    questions.append(_Question(share, channel, names))
            failures: list[CacheFSError] = []

            def answer() -> None:
                try:
                    while questions and not (failures or self._closed):
                        self._subtract_answer(questions.popleft())
                except IndexError:  # another thread took the last one
                    return
                except CacheFSError as error:
                    failures.append(error)

            threads = [
                self._runtime.start(f"drain-{number}", answer)
                for number in range(1, min(len(questions), QUESTIONS_LIMIT))
            ]
            answer()
            for thread in threads:
                if not thread.join(STALL_SECONDS):
                    raise DeadlineError("the new owners do not say what they hold")
        if failures:
            raise failures[0]

    def _subtract_answer(self, question: _Question) -> None:
        share, channel, names = question
        stub = rpc.WorkerStub(channel.channel)  # type: ignore[no-untyped-call]  # generated
        request = pb.GetResidentRequest(file_versions=messages.pack_file_versions(names))
        answer: pb.GetResidentResponse = channel.call(stub.GetResident, request)
        if len(answer.resident) != len(names):
            raise ClusterError("it answered for other files", subject=share.member.worker)
        for name, resident in zip(names, answer.resident, strict=True):
            file, mask = share.files[name]
            held = decode_mask(resident, block_count(file.entry.size, self._block_size))
            if mask & ~held:
                share.files[name] = (file, mask & ~held)
            else:
                del share.files[name]

    def _ask(self, share: _Share) -> None:
        """Ask a new owner to fill what it lacks; it will ask us, among its peers."""
        by_version: dict[tuple[DatasetName, VersionId], list[pb.WantedBlocks]] = {}
        for file, mask in share.files.values():
            wanted = pb.WantedBlocks(file_version=file.entry.file_version, blocks=encode_mask(mask))
            by_version.setdefault((file.dataset, file.version), []).append(wanted)
        with self._open_channel(share.member.control_address) as channel:
            stub = rpc.WorkerStub(channel.channel)  # type: ignore[no-untyped-call]  # generated
            for (dataset, version), wanted_blocks in by_version.items():
                for part, some in enumerate(_batches(wanted_blocks, WANTED_FILES)):
                    request = pb.WarmRequest(
                        job=f"drain {self._own} {dataset} {version} {part}",
                        dataset=str(dataset),
                        version=version,
                        wanted=some,
                    )
                    channel.call(stub.Warm, request)

    def _progress(self, shares: list[_Share]) -> DrainProgress:
        blocks = 0
        sizes = [0]
        for share in shares:
            taken = [
                (mask.bit_count(), mask_bytes(mask, file.entry.size, self._block_size))
                for file, mask in share.files.values()
            ]
            blocks += sum(count for count, _ in taken)
            sizes.append(sum(size for _, size in taken))
        return DrainProgress(blocks, sum(sizes), max(sizes) / HANDOVER_BYTES_RATE, done=False)


def _batches(items: Iterable[T], size: int) -> Iterator[tuple[T, ...]]:
    rest = iter(items)
    while batch := tuple(islice(rest, size)):
        yield batch
