"""Renewal: how a worker becomes a member, stays one, and tells the coordinator what it holds.

One thread registers, and then renews every quarter of the lease, or sooner when there is something
to tell: half a second after blocks are wanted or filled, and at once when the last block of a warm-up is
in or somebody waits for the coordinator to know (:meth:`Renewal.tell`). A coordinator that takes long to
answer is told less often, so that it is never kept busy by what is merely news. A renewal carries what changed in the tiers, the
fills that failed and the peers that were found to lie; all of it stays here until the coordinator has
answered, so that a lost message loses nothing. The answer carries the newest view and pins, if ours
are older, and what may be dropped.

When nobody answers, the worker goes on serving and filling with the last view, and goes on trying.
When its lease has run out (it was stopped, or cut off), it registers anew and reports everything. A
worker that has left for good, drained, does neither. One that finds another process under its name
(it was stopped for long, and replaced) ends.
"""

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from cachefs.config.schema import ClusterConfig
from cachefs.core.backoff import Backoff
from cachefs.core.blocks import FileVersionId
from cachefs.core.membership import RENEWALS_PER_LEASE, Member
from cachefs.core.residency import encode_mask
from cachefs.errors import (
    CacheFSError,
    ConfigError,
    ConflictError,
    DeniedError,
    LeaseExpiredError,
)
from cachefs.ports import Runtime, Task
from cachefs.transport.control import ControlChannel
from cachefs.wire import failures, messages
from cachefs.wire.proto import cachefs_pb2 as pb
from cachefs.wire.proto import cachefs_pb2_grpc as rpc
from cachefs.workers.filling.filler import Filler
from cachefs.workers.filling.fills import FillFailure
from cachefs.workers.knowledge import Knowledge
from cachefs.workers.pins import Pins
from cachefs.workers.proving.proofs import Reportable
from cachefs.workers.proving.prover import Prover
from cachefs.workers.serving.spreading import Spreading
from cachefs.workers.storage.inventory import FileResidency
from cachefs.workers.storage.store import TieredStore

FILES_LIMIT = 2000
"""File versions in one renewal; more follow at once in the next."""
FAILURES_LIMIT = 100
"""Failed fills in one renewal."""
RETRY_SECONDS = 0.5
"""The first wait after a failed call; it doubles, with full jitter, up to a quarter of the lease."""
LEAVE_SECONDS = 2.0
"""Longest wait for the coordinator when saying goodbye."""
CLOSE_SECONDS = 2.0
"""How long closing waits for the thread."""
REPORT_SECONDS = 0.5
"""The coordinator learns of a filled block within this time, and the time that it takes to answer: hints
are to know of it within a second."""
_ANSWERS_BETWEEN_REPORTS = 4
"""So many times as long as the last answer took lies between two reports, if that is more."""

_log = logging.getLogger("cachefs.worker")

_Key = tuple[FileVersionId, str]


class Renewal:
    """Keeps a worker a member. Its thread is its own; the methods are safe from any."""

    def __init__(
        self,
        runtime: Runtime,
        channel: ControlChannel,
        member: Member,
        *,
        cluster: ClusterConfig,
        store: TieredStore,
        filler: Filler,
        prover: Prover,
        knowledge: Knowledge,
        pins: Pins,
        spreading: Spreading,
        statistics: Callable[[], Mapping[str, Any]],
    ) -> None:
        """Prepare; :meth:`start` begins."""
        self._runtime = runtime
        self._channel = channel
        self._stub = rpc.CoordinatorStub(channel.channel)  # type: ignore[no-untyped-call]  # generated
        self._member = member
        self._cluster = cluster
        self._lease_seconds = cluster.lease_seconds
        self._store = store
        self._filler = filler
        self._prover = prover
        self._knowledge = knowledge
        self._pins = pins
        self._spreading = spreading
        self._statistics = statistics
        self._changed = runtime.condition()
        self._pending: dict[_Key, FileResidency] = {}
        self._withheld: dict[FileVersionId, FileResidency] = {}
        """What was told in part only, because it is not proven yet."""
        self._told_epoch = 0
        self._failures: list[FillFailure] = []
        self._send_whole = True
        self._registered = False
        self._left = False
        self._closed = False
        self._due = runtime.monotonic()
        self._failing = False
        self._answer_seconds = 0.0
        self.superseded = False
        """Whether another process runs under our name; then this one must end."""
        self._asked = self._told = 0
        self._thread: Task | None = None
        filler.on_fill = self._note_fill

    @property
    def registered(self) -> bool:
        """Whether the coordinator counted us as a member when we last spoke."""
        return self._registered

    def start(self) -> None:
        """Begin to register and renew, in a thread."""
        self._thread = self._runtime.start("renewal", self._run)

    def tell(self, timeout_seconds: float) -> bool:
        """Renew now, and wait until the coordinator knows what we hold; ``False`` on time-out."""
        deadline = self._runtime.monotonic() + timeout_seconds
        with self._changed:
            self._asked += 1
            mine = self._asked
            self._due = self._runtime.monotonic()
            self._changed.notify_all()
            while self._told < mine:
                left = deadline - self._runtime.monotonic()
                if left <= 0 or self._closed or self._left:
                    return False
                self._changed.wait(left)
        return True

    def _note_fill(self, warmed: bool) -> None:  # noqa: FBT001 - the filler's callback
        pause = 0.0 if warmed else report_pause(self._answer_seconds)
        soon = self._runtime.monotonic() + pause
        with self._changed:
            if soon < self._due and not self._failing:
                self._due = soon
                self._changed.notify_all()

    def leave(self) -> None:
        """Say goodbye, and do not come back; a coordinator that is down will notice by itself."""
        with self._changed:
            was_member, self._registered = self._registered, False
            self._left = True
            self._changed.notify_all()
        if not was_member:
            return
        request = pb.LeaveRequest(worker=self._member.worker, incarnation=self._member.incarnation)
        try:
            self._channel.call(self._stub.Leave, request, timeout_seconds=LEAVE_SECONDS)
        except CacheFSError as error:
            _log.info("left without an answer", extra={"failure": str(error)})

    def close(self) -> None:
        """End the thread; does not say goodbye."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        failed = 0
        while not (self._closed or self._left):
            asked = self._asked
            quarter = self._lease_seconds / RENEWALS_PER_LEASE
            self._due = self._runtime.monotonic() + quarter
            try:
                more = self._renew() if self._registered else self._register()
                failed = 0
                if more:
                    self._due = self._runtime.monotonic()
                else:
                    self._set_told(asked)
            except ConflictError as error:
                _log.error("standing down", extra={"failure": str(error)})
                self._set_registered(False)
                self.superseded = self._left = True
            except LeaseExpiredError as error:
                _log.warning("the lease has run out", extra={"failure": str(error)})
                self._set_registered(False)
                failed += 1
            except CacheFSError as error:
                failed += 1
                self._report_failure(error, failed)
            if failed:
                backoff = Backoff(
                    attempts_limit=failed + 1,
                    first_seconds=RETRY_SECONDS,
                    wait_seconds_max=quarter,
                )
                draw = self._runtime.random.random()
                wait = backoff.wait_after(failed, draw=draw) or 0.0
                self._due = self._runtime.monotonic() + wait
            self._failing = failed > 0
            self._pause()

    def _set_told(self, asked: int) -> None:
        with self._changed:
            self._told = asked
            self._changed.notify_all()

    def _pause(self) -> None:
        with self._changed:
            while not (self._closed or self._left):
                left = self._due - self._runtime.monotonic()
                if left <= 0:
                    return
                self._changed.wait(left)

    def _report_failure(self, error: CacheFSError, failed: int) -> None:
        # Once, and then every so often: a coordinator may be down for hours.
        if failed & (failed - 1) == 0:
            is_lasting = isinstance(error, ConfigError | DeniedError)
            level = logging.ERROR if is_lasting else logging.WARNING
            _log.log(level, "the coordinator cannot be told", extra={"failure": str(error)})

    def _set_registered(self, registered: bool) -> None:  # noqa: FBT001 - the name says it
        with self._changed:
            self._registered = registered
            self._changed.notify_all()

    def _register(self) -> bool:
        request = pb.RegisterRequest(
            member=messages.member_to_message(self._member),
            fingerprint=self._cluster.fingerprint(),
        )
        answer: pb.RegisterResponse = self._channel.call(
            self._stub.Register, request, timeout_seconds=self._lease_seconds
        )
        view = messages.view_from_message(answer.view)
        # A coordinator whose state was lost begins with epoch 1 again, and is right all the same.
        self._knowledge.replace_view(view)
        self._filler.peers.observe(view)
        self._pins.forget_revision()
        self._lease_seconds = answer.lease_seconds or self._lease_seconds
        self._send_whole = True
        self._set_registered(True)
        _log.info("registered", extra={"epoch": view.epoch})
        return True

    def _renew(self) -> bool:
        """Renew the lease; return whether there is more to tell at once."""
        whole = self._gather()
        reported = list(self._pending.items())[:FILES_LIMIT]
        said = [self._prover.reportable(each) for _, each in reported]
        failed_fills = self._failures[:FAILURES_LIMIT]
        suspects = self._filler.peers.suspects()
        request = pb.RenewRequest(
            worker=self._member.worker,
            incarnation=self._member.incarnation,
            epoch=self._knowledge.view(deadline=0.0).epoch,
            residency=[
                _residency(each, part) for (_, each), part in zip(reported, said, strict=True)
            ],
            residency_is_whole=whole,
            failures=[_failed_fill(each) for each in failed_fills],
            statistics=json.dumps(self._statistics()),
            suspects=sorted(suspects),
            pins_revision=self._pins.revision,
        )
        asked_at = self._runtime.monotonic()
        answer: pb.RenewResponse = self._channel.call(
            self._stub.Renew, request, timeout_seconds=self._lease_seconds
        )
        self._answer_seconds = self._runtime.monotonic() - asked_at
        self._send_whole = bool(answer.want_residency)
        for (key, each), part in zip(reported, said, strict=True):
            if self._pending.get(key) is each:
                del self._pending[key]
            if part != (each.resident, each.digests):
                self._withheld[each.file_version] = each
        del self._failures[: len(failed_fills)]
        self._filler.peers.forget_suspects(suspects)
        self._obey(answer, pins_named=request.pins_revision)
        return self._send_whole or bool(self._pending)

    def _gather(self) -> bool:
        """Add what happened since; return whether the pending residency is all there is."""
        changes = self._store.residency_changes()
        whole = self._send_whole
        if whole:
            self._pending = {}
            changes = self._store.residency()
        proven: Iterable[FileVersionId] = self._prover.take_proven()
        epoch = self._knowledge.view(deadline=0.0).epoch
        if epoch != self._told_epoch:
            # Other members, other provers: who is not the one tells of the first block at once.
            self._told_epoch, proven = epoch, list(self._withheld)
        for name in proven:
            each = self._withheld.pop(name, None)
            if each is not None and not whole:
                self._pending.setdefault((name, each.medium), each)
        for change in changes:
            self._pending[change.file_version, change.medium] = change
            self._withheld.pop(change.file_version, None)
        self._failures.extend(self._filler.take_failures())
        del self._failures[:-1000]
        return whole

    def _obey(self, answer: pb.RenewResponse, *, pins_named: int) -> None:
        if answer.HasField("view") and answer.view.epoch:
            view = messages.view_from_message(answer.view)
            self._knowledge.replace_view(view)
            self._filler.peers.observe(view)
            own = view.find(self._member.worker)
            if own is not None and own.draining:
                # If we must register anew, we are still draining.
                self._member = replace(self._member, draining=True)
        if answer.HasField("pins"):
            self._pins.renew(messages.retention_from_message(answer.pins), named=pins_named)
        self._pins.expire()
        self._spreading.expire()
        if answer.dropped:
            names = [FileVersionId(name) for name in answer.dropped]
            self._store.drop(names)
            self._prover.drop(names)


def report_pause(answer_seconds: float) -> float:
    """Return the seconds between something new and its report, given how long the last answer took."""
    return max(REPORT_SECONDS, _ANSWERS_BETWEEN_REPORTS * answer_seconds)


def _residency(each: FileResidency, part: Reportable) -> pb.Residency:
    return pb.Residency(
        file_version=each.file_version,
        dataset=str(each.dataset),
        version=each.version,
        tier=each.medium,
        resident=encode_mask(part.resident),
        digests=b"".join(part.digests),
    )


def _failed_fill(each: FillFailure) -> pb.FailedFill:
    return pb.FailedFill(
        dataset=str(each.file.dataset),
        version=each.file.version,
        file_version=each.file.entry.file_version,
        index=each.index,
        failure=failures.encode(each.error).decode(),
    )
