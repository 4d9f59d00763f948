"""Handing over: giving blocks that are here to the workers that own them now.

Nothing is pushed. The plan is made from what is resident here and from the placement: every block that
one of its receivers lacks is to be handed over. The receivers are asked to *warm* these blocks, from us
first, and never from the origin. Then they are asked what they hold, until they hold all of it. Only what
they say counts, so it does not matter which of the messages was lost, or who else gave them a block
meanwhile. They are asked for many files at once, and several of them at a time.

Placing a block costs a hash for each member, so what was placed is kept as long as the members stay.
"""

import threading
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
from cachefs.core.moving import HANDOVER_BYTES_RATE
from cachefs.core.names import DatasetName, WorkerId
from cachefs.core.residency import decode_mask, encode_mask, indexes, mask_bytes
from cachefs.errors import CacheFSError, ClusterError, DeadlineError, NotKnownError
from cachefs.ports import FileRef, Runtime
from cachefs.transport.control import ControlChannel
from cachefs.wire import messages
from cachefs.wire.proto import cachefs_pb2 as pb
from cachefs.wire.proto import cachefs_pb2_grpc as rpc
from cachefs.workers.knowledge import Knowledge
from cachefs.workers.storage.store import TieredStore

STALL_SECONDS = 60.0
"""A handover without progress for so long has failed."""
METADATA_SECONDS = 10.0
"""Longest wait to learn what a resident file is."""
QUESTION_FILES = 5000
"""File versions in one question: 100 kB, and milliseconds of the other worker's time."""
WANTED_FILES = 100_000
"""File versions in one request to warm: 5 MB, a third of what a message may have."""
QUESTIONS_LIMIT = 8
"""Questions at once; an answer is mostly waited for, so they need not be fewer than cores."""

T = TypeVar("T")


@dataclass(slots=True)
class Share:
    """What one receiver must still take: a mask for each file."""

    member: Member
    files: dict[FileVersionId, tuple[FileRef, int]] = field(default_factory=dict)


class Left(NamedTuple):
    """What is left to hand over."""

    blocks: int
    size: int
    seconds: float
    """Estimated."""


class _Question(NamedTuple):
    """What some file versions are asked for with: their receiver, and the way to it."""

    share: Share
    channel: ControlChannel
    file_versions: tuple[FileVersionId, ...]


@dataclass(slots=True)
class _Placed:
    """Where the blocks of one file belong, as far as that was looked at."""

    looked_at: int = 0
    by_worker: dict[WorkerId, int] = field(default_factory=dict)
    nowhere: int = 0


class Handover:
    """Makes plans from what is here, and asks others for their part. Safe from any thread."""

    def __init__(
        self,
        runtime: Runtime,
        store: TieredStore,
        knowledge: Knowledge,
        *,
        own: WorkerId,
        block_size: int,
        open_channel: Callable[[str], ControlChannel],
    ) -> None:
        """Give what is in ``store``; ``open_channel`` leads to a worker's control server."""
        self._runtime = runtime
        self._store = store
        self._knowledge = knowledge
        self._own = own
        self._block_size = block_size
        self._open_channel = open_channel
        # Straight-line code only under this lock: nothing in it waits, or calls another object.
        self._lock = threading.Lock()
        self._placed_for: tuple[object, ...] = ()
        self._placed: dict[tuple[FileVersionId, str, int], _Placed] = {}
        self._closed = False

    def close(self) -> None:
        """Ask nothing any more."""
        self._closed = True

    def shares(
        self,
        members: Iterable[Member],
        *,
        receives: Callable[[Member], bool] = lambda _: True,
        on_nobody: Callable[[FileRef], None] = lambda _: None,
    ) -> list[Share]:
        """Return what each receiver lacks of what is here.

        Args:
            members: Among whom the blocks are placed; without this worker if it leaves.
            receives: Which of them are given anything; this worker never is.
            on_nobody: Called for a block that none of them owns.

        Raises:
            ClusterError: Somebody who must be asked does not answer.
        """
        members = list(members)
        by_name = {member.worker: member for member in members}
        shares: dict[WorkerId, Share] = {}
        for resident in self._store.residency():
            try:
                file = self._file(resident.dataset, resident.version, resident.file_version)
            except NotKnownError:
                continue  # nobody wants that version any more
            with self._lock:
                placed = self._place(file, resident.resident, members)
                nowhere, by_worker = placed.nowhere, dict(placed.by_worker)
            if nowhere & resident.resident:
                on_nobody(file)
            for worker, mask in by_worker.items():
                given = mask & resident.resident
                if given and worker != self._own and receives(by_name[worker]):
                    share = shares.setdefault(worker, Share(by_name[worker]))
                    _, before = share.files.get(resident.file_version, (file, 0))
                    share.files[resident.file_version] = (file, before | given)
        self._subtract(shares.values())
        return [share for share in shares.values() if share.files]

    def ask(self, share: Share, job: str, *, rate: float = 0.0) -> None:
        """Ask a receiver to take what it lacks from us, at most so many bytes a second.

        Raises:
            CacheFSError: It does not answer, or refuses.
        """
        by_version: dict[tuple[DatasetName, VersionId], list[pb.WantedBlocks]] = {}
        for file, mask in share.files.values():
            wanted = pb.WantedBlocks(file_version=file.entry.file_version, blocks=encode_mask(mask))
            by_version.setdefault((file.dataset, file.version), []).append(wanted)
        with self._open_channel(share.member.control_address) as channel:
            stub = rpc.WorkerStub(channel.channel)  # type: ignore[no-untyped-call]  # generated
            for (dataset, version), wanted_blocks in by_version.items():
                for part, some in enumerate(_batches(wanted_blocks, WANTED_FILES)):
                    request = pb.WarmRequest(
                        job=f"{job} {self._own} {dataset} {version} {part}",
                        dataset=str(dataset),
                        version=version,
                        wanted=some,
                        rate=int(rate),
                        from_peers=True,
                        source=self._own,
                    )
                    channel.call(stub.Warm, request)

    def left(self, shares: Iterable[Share]) -> Left:
        """Add up what shares still lack."""
        blocks = 0
        sizes = [0]
        for share in shares:
            taken = [
                (mask.bit_count(), mask_bytes(mask, file.entry.size, self._block_size))
                for file, mask in share.files.values()
            ]
            blocks += sum(count for count, _ in taken)
            sizes.append(sum(size for _, size in taken))
        return Left(blocks, sum(sizes), max(sizes) / HANDOVER_BYTES_RATE)

    def _place(self, file: FileRef, resident: int, members: list[Member]) -> _Placed:
        """Return where the blocks of a file belong; all that are resident were looked at."""
        shape = tuple((one.worker, one.zone, one.pool, one.weight, one.draining) for one in members)
        if shape != self._placed_for:
            self._placed_for = shape
            self._placed.clear()
        key = (file.entry.file_version, file.pool, file.replicas)
        placed = self._placed.setdefault(key, _Placed())
        for index in indexes(resident & ~placed.looked_at):
            block = BlockId(file.entry.file_version, index)
            owners = placement.owners(block, members, pool=file.pool, replicas=file.replicas)
            if not owners:
                placed.nowhere |= 1 << index
            for owner in owners:
                mask = placed.by_worker.get(owner.worker, 0)
                placed.by_worker[owner.worker] = mask | 1 << index
        placed.looked_at |= resident
        return placed

    def _file(
        self, dataset: DatasetName, version: VersionId, file_version: FileVersionId
    ) -> FileRef:
        deadline = self._runtime.monotonic() + METADATA_SECONDS
        return self._knowledge.file(dataset, version, file_version, deadline=deadline)

    def _subtract(self, shares: Iterable[Share]) -> None:
        """Take away what the receivers hold already."""
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
                self._runtime.start(f"ask-{number}", answer)
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


def _batches(items: Iterable[T], size: int) -> Iterator[tuple[T, ...]]:
    rest = iter(items)
    while batch := tuple(islice(rest, size)):
        yield batch
