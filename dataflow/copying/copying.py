"""Copying: the threads that move files from a source to a destination.

Theory of operation. A file is cut into parts. Each of ``parallel`` threads takes the next part of a file
that is under way, or begins the next file, so one file of a terabyte and a million small ones are copied
alike, and no more than ``parallel`` parts are in memory. A part is read under the condition that the
source's file is still the one that was listed, so parts of two contents never meet.

What is at the destination is worth nothing to a successor unless it is noted. The caller's thread notes,
for all threads at once, when one of them asks for it; and no thread begins to fetch what would make more
than one part of its own that is not noted yet. So whoever is killed, at whatever moment, has at most one
part for each thread fetched in vain.

Nothing that was sent is believed. When all parts of a file are there, it is read back, and each part
compared with the digest of what came from the source, and the whole with the digest that the source
vouches for, if it does: before it gets its name, where unfinished files can be read, else right after.
"""

from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from cachefs.core.manifest import FileEntry
from cachefs.core.names import printable
from cachefs.dataflow.copying.asking import Asker, Lane
from cachefs.dataflow.copying.comparing import Digest, Expected, digest_by, is_whole_known
from cachefs.dataflow.copying.ledger import Ledger, Unfinished
from cachefs.dataflow.copying.options import CopyOptions, Ends
from cachefs.dataflow.copying.plans import (
    READS_BACK,
    Candidate,
    CopyPlan,
    is_equal,
    part_bytes_of,
)
from cachefs.dataflow.ports import StepContext
from cachefs.dataflow.records import Progress
from cachefs.dataflow.steps.choosing import Rate
from cachefs.errors import (
    CacheFSError,
    OriginNotFoundError,
    OriginUnavailableError,
)
from cachefs.origins.destinations import Destination, NewFile, Writing
from cachefs.ports import Closing, Task

_LOOK_SECONDS = 0.1
_NOTE_SECONDS = 1.0
"""What nobody waits for is noted so often."""
_JOIN_SECONDS = 1.5
"""A cancelled step ends within two seconds; a thread whose request hangs is then left behind."""


@dataclass(slots=True)
class _Underway:
    """A file whose parts several threads write."""

    entry: FileEntry
    writing: Writing
    record: Unfinished
    missing: deque[int]
    left: int
    """Parts that are not written."""


class Copying(Closing):
    """One attempt at copying. Owns its threads."""

    def __init__(
        self,
        context: StepContext,
        ends: Ends,
        ledger: Ledger,
        options: CopyOptions,
        *,
        note: Callable[[Mapping[str, object]], None],
    ) -> None:
        """Prepare it.

        Args:
            context: Of the step: who cancels, who is told.
            ends: From where, to where.
            ledger: What earlier attempts noted.
            options: How.
            note: Stores the ledger, durably; called from the thread that calls :meth:`run`.
        """
        self._context = context
        self._runtime = context.runtime
        self._ends = ends
        self._ledger = ledger
        self._options = options
        self._note = note
        self._digest: Digest = digest_by(options.verify)
        self._turn = context.runtime.condition()
        self._candidates: deque[Candidate] = deque()
        self._underway: list[_Underway] = []
        self._beginning = 0
        self._running = 0
        self._tasks: list[Task] = []
        self._failure: Exception | None = None
        self._changes = 0
        self._asked = 0
        self._noted = 0
        self._noted_at = context.runtime.monotonic()
        self._moved = 0
        self._origin_before = ledger.origin_bytes
        self._asker = Asker(
            context.runtime, rate=options.rate, subject=options.key, least=ends.request_bytes_min
        )
        self._rate = Rate()

    # ---- the caller's thread --------------------------------------------------------------------

    def run(self, plan: CopyPlan) -> None:
        """Copy what is not there yet; return when it is, and noted.

        Raises:
            StepCancelledError: The step was cancelled; what was written is kept.
            OriginChangedError: The source changed meanwhile.
            CacheFSError: It cannot be done; ``retryable`` says whether it may be later.
        """
        wanted = {one.entry.path for one in plan.candidates}
        for path in set(self._ledger.unfinished) - wanted:
            self.forget(path)
        if not plan.candidates:
            return
        self._candidates.extend(plan.candidates)
        parts = sum(1 + one.entry.size // self._options.part_bytes for one in plan.candidates)
        self._running = min(self._options.parallel, parts)
        total = plan.bytes_done + plan.bytes_left
        self._tasks = [
            self._runtime.start(f"copy {self._options.key}", self._stream)
            for _ in range(self._running)
        ]
        try:
            while self._wait():
                self._write_note(due=False)
                self._report(plan.bytes_done, total)
                self._context.sleep(0.0)
        finally:
            self.close()
            # Also of a failed or cancelled attempt: what is there need not be fetched again.
            with suppress(CacheFSError):
                self._write_note(due=True)
        if self._failure is not None:
            raise self._failure
        self._write_note(due=True)
        self._report(plan.bytes_done, total)

    def close(self) -> None:
        """Stop all threads; one whose request does not end is left behind, and writes no more."""
        self._stop()
        until = self._runtime.monotonic() + _JOIN_SECONDS
        for task in self._tasks:
            task.join(max(0.0, until - self._runtime.monotonic()))
        self._tasks = []

    def _stop(self) -> None:
        self._asker.stop()
        with self._turn:
            self._turn.notify_all()

    def _wait(self) -> bool:
        """Wait for something to do; ``False`` when the threads have ended."""
        with self._turn:
            if self._running and not self._failure and self._asked <= self._noted:
                self._turn.wait(_LOOK_SECONDS)
            return self._running > 0 and self._failure is None

    def _write_note(self, *, due: bool) -> None:
        now = self._runtime.monotonic()
        with self._turn:
            due = due or self._asked > self._noted or now - self._noted_at >= _NOTE_SECONDS
            if not due or self._changes == self._noted:
                return
            changes = self._changes
            self._ledger.origin_bytes = self._origin_bytes()
            noted = self._ledger.encode()
        self._note(noted)
        self._noted_at = now
        with self._turn:
            self._noted = changes
            self._turn.notify_all()

    def _origin_bytes(self) -> int:
        return self._origin_before + self._ends.spent()

    def _report(self, before: int, total: int) -> None:
        done = min(total, before + self._moved)
        origin_bytes = self._origin_bytes()
        self._context.report(
            Progress(
                done=done,
                total=total,
                rate=self._rate.note(self._runtime.monotonic(), self._moved),
                origin_bytes=origin_bytes,
                egress_bytes=origin_bytes if self._ends.charged else 0,
            )
        )

    # ---- the threads ----------------------------------------------------------------------------

    def _stream(self) -> None:
        lane = Lane()
        try:
            while (work := self._take()) is not None:
                if isinstance(work, Candidate):
                    self._begin(lane, work)
                else:
                    self._copy_part(lane, *work)
        except Exception as error:  # noqa: BLE001 - it is raised again, in the caller's thread
            with self._turn:
                if self._failure is None and not self._asker.is_stopped():
                    self._failure = error
            self._stop()
        finally:
            with self._turn:
                self._running -= 1
                last = self._running == 0
                self._turn.notify_all()
            if last:
                # Nobody uses them any more; what is in them stays at the destination.
                for file in self._underway:
                    with suppress(CacheFSError):
                        file.writing.close()

    def _take(self) -> Candidate | tuple[_Underway, int] | None:
        with self._turn:
            while not self._asker.is_stopped():
                for file in self._underway:
                    if file.missing:
                        return file, file.missing.popleft()
                if self._candidates:
                    self._beginning += 1
                    return self._candidates.popleft()
                if not self._beginning:
                    return None
                # Somebody begins a file, which may have parts for us.
                self._turn.wait(_LOOK_SECONDS)
        return None

    def _begin(self, lane: Lane, candidate: Candidate) -> None:
        entry = candidate.entry
        part_bytes = part_bytes_of(
            entry.size,
            least=self._ends.destination.part_bytes_min,
            usual=self._options.part_bytes,
        )
        new = NewFile(entry.path, entry.size, part_bytes, f"{self._options.key} {entry.token}")
        try:
            if self._is_there(lane, candidate, part_bytes):
                return
            if self._ends.destination.resumes and entry.size > part_bytes:
                self._begin_parts(lane, entry, new)
            else:
                self._copy_alone(lane, entry, new)
        finally:
            with self._turn:
                self._beginning -= 1
                self._turn.notify_all()

    def _is_there(self, lane: Lane, candidate: Candidate, part_bytes: int) -> bool:
        """Compare what is at the destination; note it as done if it is the right content."""
        entry, there = candidate.entry, candidate.there
        if there is None or not candidate.same_size:
            return False
        record = self._ledger.find(entry, part_bytes)
        if record is not None and record.whole:
            # A predecessor finished the file, and could not note it any more.
            expected = Expected(entry, part_bytes, record.parts, self._digest)
            if expected.first_wrong(self._reading(there)) is None:
                self._settle(lane, entry, there.token, wrote=True, moved=entry.size)
                return True
            return False
        if is_equal(candidate, self._options.verify):
            equal = True
        elif is_whole_known(entry):
            expected = Expected(entry, part_bytes, None, self._digest)
            equal = expected.first_wrong(self._reading(there)) is None
        else:
            equal = self._compare_both(lane, entry, there, part_bytes)
        if equal:
            self._settle(lane, entry, there.token, wrote=False, moved=entry.size)
        return equal

    def _compare_both(
        self, lane: Lane, entry: FileEntry, there: FileEntry, part_bytes: int
    ) -> bool:
        read = self._reading(there)
        for offset in range(0, entry.size, part_bytes):
            length = min(part_bytes, entry.size - offset)
            data = self._fetch(lane, entry, offset, length)
            if self._digest(data) != self._digest(read(offset, length)):
                return False
        return True

    def _copy_alone(self, lane: Lane, entry: FileEntry, new: NewFile) -> None:
        """Copy a file in one go: it has one part, or its destination takes them in order."""
        self._make_room(lane, min(entry.size, new.part_bytes))
        writing = self._asker.again(lambda: self._ends.destination.begin(new))
        digests: dict[int, bytes] = {}
        try:
            for index, offset in enumerate(range(0, entry.size, new.part_bytes)):
                data = self._fetch(lane, entry, offset, min(new.part_bytes, entry.size - offset))
                digests[index] = self._digest(data)
                # What was appended cannot be appended again: such a file begins anew.
                writing.write(offset, data, self._asker.is_stopped)
                with self._turn:
                    self._moved += len(data)
            self._finish(
                lane, entry, writing, Expected(entry, new.part_bytes, digests, self._digest)
            )
        except BaseException:
            with suppress(CacheFSError):
                writing.discard()
            raise

    def _begin_parts(self, lane: Lane, entry: FileEntry, new: NewFile) -> None:
        """Begin a file of several parts, or go on with it; then it is everybody's."""
        destination = self._ends.destination
        record = self._ledger.find(entry, new.part_bytes)
        if record is None:
            self.forget(entry.path)
        resumed = None
        if record is not None:
            state = record.state
            resumed = self._asker.again(lambda: destination.resume(new, state))
        if record is not None and resumed is not None:
            writing = resumed.writing
            kept = self._kept(entry, record, writing, resumed.parts)
        else:
            writing = self._asker.again(lambda: destination.begin(new))
            record = Unfinished(entry.token, entry.size, new.part_bytes, writing.state)
            kept = {}
        count = -(-entry.size // new.part_bytes)
        missing = deque(index for index in range(count) if index not in kept)
        file = _Underway(entry, writing, record, missing, len(missing))
        with self._turn:
            record.parts = kept
            self._ledger.unfinished[entry.path] = record
            self._changes += 1
            self._moved += sum(_length(record, index) for index in kept)
        if writing.state:
            self._commit(lane)
        with self._turn:
            self._underway.append(file)
            self._turn.notify_all()
        if not missing:
            self._finish_parts(lane, file)

    def _kept(
        self,
        entry: FileEntry,
        record: Unfinished,
        writing: Writing,
        have: frozenset[int] | None,
    ) -> dict[int, bytes]:
        """Return the noted parts that the destination has, as they were."""
        if have is not None:
            return {index: digest for index, digest in record.parts.items() if index in have}
        read = writing.read_back
        kept = {}
        for index, digest in record.parts.items():
            self._asker.check()
            length = _length(record, index)
            if read is not None and self._digest(read(index * record.part_bytes, length)) == digest:
                kept[index] = digest
        if len(kept) < len(record.parts):
            self._context.tell(
                f"{printable(entry.path)}: {len(record.parts) - len(kept)} parts are damaged at "
                "the destination, and are copied again"
            )
        return kept

    def _copy_part(self, lane: Lane, file: _Underway, index: int) -> None:
        offset = index * file.record.part_bytes
        length = _length(file.record, index)
        self._make_room(lane, length)
        data = self._fetch(lane, file.entry, offset, length)
        digest = self._digest(data)
        self._asker.again(lambda: file.writing.write(offset, data, self._asker.is_stopped))
        with self._turn:
            file.record.parts[index] = digest
            file.left -= 1
            last = file.left == 0
            lane.unnoted += length
            self._changes += 1
            self._moved += length
        if last:
            self._finish_parts(lane, file)

    def _finish_parts(self, lane: Lane, file: _Underway) -> None:
        # Once it has its name, only these notes tell what it must be.
        self._commit(lane)
        record = file.record
        expected = Expected(file.entry, record.part_bytes, record.parts, self._digest)
        self._finish(lane, file.entry, file.writing, expected)
        with self._turn:
            self._underway.remove(file)

    def _finish(self, lane: Lane, entry: FileEntry, writing: Writing, expected: Expected) -> None:
        """Look at what was written, give it its name, and note it as done."""
        looks = self._options.verify in READS_BACK
        if looks and writing.read_back is not None:
            self._verify(entry, expected, writing.read_back, writing.discard)
        try:
            token = self._asker.again(writing.finish)
        except OriginNotFoundError as error:
            if not expected.several:
                raise
            # An answer was lost, and the upload is complete; or somebody aborted it.
            raise OriginUnavailableError(
                "the upload is gone", subject=printable(entry.path), hint="look again"
            ) from error
        if looks and writing.read_back is None:
            there = entry._replace(token=token)

            def remove() -> None:
                self._ends.destination.remove(entry.path)

            self._verify(entry, expected, self._reading(there), remove)
        self._settle(lane, entry, token, wrote=True, moved=0)

    def _verify(
        self,
        entry: FileEntry,
        expected: Expected,
        read: Callable[[int, int], memoryview],
        discard: Callable[[], None],
    ) -> None:
        wrong = expected.first_wrong(read)
        if wrong is None:
            return
        with self._turn:
            self._ledger.unfinished.pop(entry.path, None)
            self._changes += 1
        with suppress(CacheFSError):
            discard()
        raise wrong

    def _settle(self, lane: Lane, entry: FileEntry, token: str, *, wrote: bool, moved: int) -> None:
        with self._turn:
            self._ledger.settle(entry, token, wrote=wrote)
            self._changes += 1
            self._moved += moved
            lane.unnoted += entry.size

    def forget(self, path: str) -> None:
        """Remove what is left of an unfinished file, and forget it."""
        forget(self._asker, self._ends.destination, self._ledger, self._options.key, path)
        with self._turn:
            self._changes += 1

    # ---- what they do it with -------------------------------------------------------------------

    def _fetch(self, lane: Lane, entry: FileEntry, offset: int, length: int) -> memoryview:
        return self._asker.fetch(lane, self._ends.source, entry, offset=offset, length=length)

    def _reading(self, there: FileEntry) -> Callable[[int, int], memoryview]:
        """Return what reads a finished file at the destination."""

        def read(offset: int, length: int) -> memoryview:
            return self._asker.again(lambda: self._ends.there().read_range(there, offset, length))

        return read

    def _make_room(self, lane: Lane, length: int) -> None:
        """Have no more than a part of this thread's that is not noted."""
        limit = max(self._options.part_bytes, length)
        if lane.unnoted and lane.unnoted + length > limit:
            self._commit(lane)

    def _commit(self, lane: Lane) -> None:
        """Wait until all that was done so far is noted."""
        with self._turn:
            wanted = self._changes
            self._asked = max(self._asked, wanted)
            self._turn.notify_all()
            while self._noted < wanted:
                self._asker.check()
                self._turn.wait(_LOOK_SECONDS)
        lane.unnoted = 0


def _length(record: Unfinished, index: int) -> int:
    return min(record.part_bytes, record.size - index * record.part_bytes)


def forget(asker: Asker, destination: Destination, ledger: Ledger, key: str, path: str) -> None:
    """Remove what a step with this key has left of an unfinished file, and forget it."""
    record = ledger.unfinished.get(path)
    if record is None:
        return
    file = NewFile(path, record.size, record.part_bytes, f"{key} {record.token}")
    resumed = asker.again(lambda: destination.resume(file, record.state))
    if resumed is not None:
        asker.again(resumed.writing.discard)
    ledger.unfinished.pop(path, None)
