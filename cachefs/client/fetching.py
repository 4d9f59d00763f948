"""Fetching one block: whom to ask, in which order, and when to stop.

Workers are asked in placement order: the owner, its replicas, then those that would own the block if
these were gone. The owner fills the block if it has to. Everyone after it is asked only because
somebody before failed (was dead, silent, full, or served wrong bytes), and so may fill it as well;
that is what keeps reads going, and what a slow but healthy owner never causes. Three answers end the
matter at once: a block that matches its digest, an error of the *origin* (unless a replica holds the
block), and a wrong token.

An owner that sends a block to many already refers us to a replica, and serves us itself if that one
cannot. So a reader need not know how many replicas there are.

When all have failed, the view is asked for again and the round repeats after a pause, until the
deadline or ``attempts_limit``. The error then says whom we asked and what each one said.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from cachefs.client.hedges import Hedges, Race
from cachefs.client.statistics import LOCAL, ORIGIN, PEER, ReadCounters
from cachefs.client.views import Standing, ViewKeeper
from cachefs.config.schema import ReaderConfig
from cachefs.core import placement
from cachefs.core.blocks import BlockId
from cachefs.core.hedging import Latencies
from cachefs.core.membership import Member, View
from cachefs.core.names import printable
from cachefs.errors import (
    CacheFSError,
    DeadlineError,
    DeniedError,
    IntegrityError,
    OriginError,
    WorkerUnavailableError,
)
from cachefs.ports import (
    BlockRequest,
    BlockSource,
    CancelToken,
    FetchedBlock,
    FileRef,
    Referral,
    Runtime,
)
from cachefs.wire.digests import Digester

_PAUSE_SECONDS = 0.05
"""Before the second round; it doubles with each further one."""
_PAUSE_SECONDS_MAX = 1.0
_VIEW_SECONDS = 1.0
"""How long a round that failed waits for a newer view."""


class Served(NamedTuple):
    """Where the bytes of a block came from."""

    source: str
    """``local`` or ``peer`` if a worker had it, ``origin`` if it had to be filled for us."""
    member: Member


class _Terms(NamedTuple):
    """What we ask a worker for, besides the block."""

    only_cached: bool = False
    from_peers: bool = False
    zone: str | None = None
    """Ours, if the worker may refer us to another one."""


_AS_REPLICA = _Terms(from_peers=True)
_AS_HEDGE = _Terms(only_cached=True)


@dataclass(slots=True)
class _Wanted:
    """One block on its way."""

    view: View
    file: FileRef
    index: int
    into: memoryview
    known: bytes | None
    deadline: float
    cancel: CancelToken
    owners: Sequence[Member] = ()
    """Who is meant to hold it; what others hold is a copy for a crowd, or left from before."""
    attempts: int = 0
    failures: list[CacheFSError] = field(default_factory=list)
    asked: Counter[str] = field(default_factory=Counter)
    """Whom we asked and what each one said, with how often."""

    @property
    def subject(self) -> str:
        return f"{self.file.dataset}/{printable(self.file.entry.path)} block {self.index}"


class BlockFetcher:
    """Brings blocks from workers into buffers, verified; safe from any thread."""

    def __init__(
        self,
        runtime: Runtime,
        config: ReaderConfig,
        blocks: BlockSource,
        views: ViewKeeper,
        *,
        digester: Digester,
        counters: ReadCounters,
        node: str = "",
    ) -> None:
        """Ask nobody yet; the zone of the workers on our ``node`` is ours."""
        self._runtime = runtime
        self._config = config
        self._blocks = blocks
        self._views = views
        self._digester = digester
        self._counters = counters
        self._node = node
        self._standing = Standing(avoid_seconds=config.stall_seconds)
        self._hedges = Hedges(
            runtime, limit=config.connections_limit, seconds_min=config.hedge_seconds_min
        )
        self._latencies = Latencies()

    def fetch(
        self,
        file: FileRef,
        index: int,
        into: memoryview,
        *,
        known: bytes | None,
        deadline: float,
        cancel: CancelToken,
    ) -> Served:
        """Fill ``into`` with a verified block; nobody writes into it after the return.

        Args:
            file: Which file version.
            index: Which block.
            into: As long as the block.
            known: The block's digest, as metadata has it; ``None`` to believe the one that comes
                with the block, which finds damage but not a worker that lies.
            deadline: When to give up.
            cancel: Nobody wants the block any more.

        Raises:
            DeadlineError: Nobody served it in time.
            WorkerUnavailableError: Nobody could serve it, or the fetch was cancelled.
            IntegrityError: All that was served was wrong.
            OriginError: It could not be filled.
            DeniedError: The token is wrong.
        """
        view = self._views.current(deadline=deadline)
        wanted = _Wanted(view, file, index, into, known, deadline, cancel)
        pause = _PAUSE_SECONDS
        while True:
            served = self._ask_all(wanted)
            if served is not None:
                return served
            self._check_may_go_on(wanted)
            until = min(deadline, self._runtime.monotonic() + _VIEW_SECONDS)
            wanted.view = self._views.refreshed(deadline=until)
            left = deadline - self._runtime.monotonic()
            self._runtime.sleep(max(0.0, min(pause * self._runtime.random.uniform(0.5, 1.0), left)))
            pause = min(2 * pause, _PAUSE_SECONDS_MAX)
            self._check_may_go_on(wanted)
            self._counters.retried()

    def close(self) -> None:
        """End the hedges."""
        self._hedges.close()

    @property
    def hedges(self) -> tuple[int, int]:
        """How many were started, and how many won."""
        return self._hedges.started, self._hedges.won

    def latency(self, quantile: float) -> float | None:
        """Return a quantile of the recent fetches' seconds."""
        return self._latencies.quantile(quantile)

    def _ask_all(self, wanted: _Wanted) -> Served | None:
        """Ask one worker after the other; ``None`` when none could serve the block."""
        order = self._order(wanted)
        refused: OriginError | None = None
        for rank, member in enumerate(order):
            if refused is not None and rank >= wanted.file.replicas:
                break
            only_cached = refused is not None or (member.draining and not order[0].draining)
            backup = order[rank + 1] if rank + 1 < len(order) else None
            terms = _AS_HEDGE if only_cached else _Terms(zone=self._zone(wanted.view))
            wanted.attempts += 1
            try:
                fetched = self._ask(wanted, member, backup, terms)
            except OriginError as error:
                refused = refused or error
            except DeniedError:
                raise
            except CacheFSError as error:
                self._note_failure(wanted, member, error)
                self._check_may_go_on(wanted)
            else:
                if fetched is not None:
                    return fetched
                wanted.asked[f"{member.worker}: does not hold it"] += 1
        if refused is not None:
            raise refused
        if not order:
            wanted.asked[f"pool {wanted.file.pool!r} has no workers"] += 1
            self._views.tell_unserved(wanted.file)
        return None

    def _ask(
        self, wanted: _Wanted, member: Member, backup: Member | None, terms: _Terms
    ) -> Served | None:
        """Fetch from a worker, or from the one that it refers us to."""
        answer = self._race(wanted, member, backup, terms)
        if isinstance(answer, Referral):
            served = self._follow(wanted, answer)
            answer = served or self._race(wanted, member, backup, terms._replace(zone=None))
        return answer if isinstance(answer, Served) else None

    def _follow(self, wanted: _Wanted, referral: Referral) -> Served | None:
        """Fetch from a replica; ``None`` if the owner must serve the block after all.

        There is no hedge: it would lead back to the owner, which is busy, while the replica takes its
        copy. A replica that falls silent is given up.
        """
        replica = wanted.view.find(referral.worker)
        if replica is None or self._standing.avoids(replica, self._runtime.monotonic()):
            return None
        wanted.attempts += 1
        try:
            answer = self._race(wanted, replica, None, _AS_REPLICA)
        except DeniedError:
            raise
        except OriginError:
            return None
        except CacheFSError as error:
            self._note_failure(wanted, replica, error)
            self._check_may_go_on(wanted)
            return None
        if isinstance(answer, Served):
            return answer
        wanted.asked[f"{replica.worker}: holds no copy"] += 1
        return None

    def _zone(self, view: View) -> str:
        """Return the zone that we are in; empty if no worker is on our machine."""
        return next((member.zone for member in view.members if member.node == self._node), "")

    def _order(self, wanted: _Wanted) -> list[Member]:
        view = wanted.view
        block = BlockId(wanted.file.entry.file_version, wanted.index)
        order = placement.order(block, view.members, pool=wanted.file.pool)
        wanted.owners = order[: wanted.file.replicas]
        # Who drains owns nothing but still serves what it has.
        order += [
            member for member in view.members if member.draining and member.pool == wanted.file.pool
        ]
        return self._standing.sort(order, self._runtime.monotonic())

    def _note_failure(self, wanted: _Wanted, member: Member, error: CacheFSError) -> None:
        wanted.failures.append(error)
        wanted.asked[f"{member.worker}: {error.message}"] += 1
        if wanted.cancel.cancelled or self._runtime.monotonic() >= wanted.deadline:
            return  # It says nothing about the worker.
        self._counters.retried()
        self._standing.failed(member, self._runtime.monotonic())
        self._views.suspect()

    def _check_may_go_on(self, wanted: _Wanted) -> None:
        if wanted.cancel.cancelled:
            raise WorkerUnavailableError("the read was cancelled", subject=wanted.subject)
        said = "asked " + "; ".join(
            text if times == 1 else f"{text} ({times} times)"
            for text, times in wanted.asked.items()
        )
        late = self._runtime.monotonic() >= wanted.deadline
        if not late and wanted.attempts < self._config.attempts_limit:
            return
        if wanted.failures and all(isinstance(each, IntegrityError) for each in wanted.failures):
            raise IntegrityError("everybody serves wrong bytes", subject=wanted.subject, hint=said)
        if late:
            raise DeadlineError("nobody served it in time", subject=wanted.subject, hint=said)
        raise WorkerUnavailableError("nobody could serve it", subject=wanted.subject, hint=said)

    def _race(
        self, wanted: _Wanted, member: Member, backup: Member | None, terms: _Terms
    ) -> Served | Referral | None:
        """Fetch from a worker, with a hedge at another one."""
        primary = CancelToken()
        wanted.cancel.on_cancel(primary.cancel)
        began = self._runtime.monotonic()
        race = None
        if backup is not None:
            delay = self._latencies.hedge_delay(
                quantile=self._config.hedge_quantile, seconds_min=self._config.hedge_seconds_min
            )
            race = Race(
                backup,
                len(wanted.into),
                began + delay,
                lambda who, scratch, cancel: self._hedge(wanted, who, scratch, cancel),
                primary,
            )
            self._hedges.enter(race)
        failure: CacheFSError | None = None
        fetched: FetchedBlock | Referral | None = None
        winner = None
        try:
            fetched = self._fetch_verified(wanted, member, wanted.into, primary, terms)
        except CacheFSError as error:
            failure = error
        finally:
            wanted.cancel.on_cancel(None)
            if race is not None:
                winner = self._hedges.leave(
                    race, failed=failure is not None, deadline=wanted.deadline
                )
        if winner is not None and race is not None and not isinstance(fetched, FetchedBlock):
            hedged, scratch = winner
            wanted.into[:] = scratch
            # Who is slow whenever it is asked must not keep us from learning what a fetch takes.
            self._latencies.add(self._runtime.monotonic() - race.due)
            if race.backup in wanted.owners:  # else it lost to a copy: it is busy, and not ill
                self._standing.overtaken(member, self._runtime.monotonic())
            return Served(_kind(hedged), race.backup)
        if failure is not None:
            raise failure
        if not isinstance(fetched, FetchedBlock):
            return fetched
        self._standing.answered(member)
        if fetched.source != ORIGIN:
            self._latencies.add(self._runtime.monotonic() - began)
        return Served(_kind(fetched), member)

    def _hedge(
        self, wanted: _Wanted, member: Member, into: memoryview, cancel: CancelToken
    ) -> FetchedBlock | None:
        fetched = self._fetch_verified(wanted, member, into, cancel, _AS_HEDGE)
        return fetched if isinstance(fetched, FetchedBlock) else None

    def _fetch_verified(
        self,
        wanted: _Wanted,
        member: Member,
        into: memoryview,
        cancel: CancelToken,
        terms: _Terms,
    ) -> FetchedBlock | Referral | None:
        # Wrong bytes are most often a copy that rotted on the worker's disk, which cannot see that.
        # Told so, the worker looks, and fills the block anew; a second wrong answer is a lie.
        for verify in (False, True):
            request = BlockRequest(
                file=wanted.file,
                index=wanted.index,
                into=into,
                only_cached=terms.only_cached,
                from_peers=terms.from_peers,
                zone=None if verify else terms.zone,
                verify=verify,
                deadline=wanted.deadline,
                cancel=cancel,
            )
            fetched = self._blocks.fetch(member, request)
            if not isinstance(fetched, FetchedBlock) or self._is_right(fetched, into, wanted.known):
                return fetched
            self._counters.distrust(member.worker)
        raise IntegrityError("served bytes that do not match their digest", subject=wanted.subject)

    def _is_right(self, fetched: FetchedBlock, into: memoryview, known: bytes | None) -> bool:
        digest = fetched.digest if fetched.vouched else self._digester(into)
        return digest == (known or fetched.digest)


def _kind(fetched: FetchedBlock) -> str:
    return fetched.source if fetched.source in {LOCAL, ORIGIN} else PEER
