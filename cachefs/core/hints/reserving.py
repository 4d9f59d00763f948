"""Reservations: places that are kept, so that waiting for one is safe, and fair.

Theory of operation. A reservation keeps places on one or several nodes for one job, all of them or
none. It is reckoned by :mod:`.fitting` like everything else: what others hold is put onto the node
first, in the order in which it was promised, and whatever is left then, now or at some release, is what
can be promised next. So no place has two holders, and what is held shows in everybody else's waiting
time through :meth:`Reservations.taken`.

What jobs really do moves the moments: :meth:`Reservations.follow` is told of each change of a node.

It is *held* until it is *claimed* (the job has been placed there), cancelled, or expired: fifteen
seconds after the places should have become free. A claimed one counts for a moment more, until the
inventory shows the job itself. Expiry is lazy: each call first retires what has run out.

*Fairness.* Whoever asks for places stands in a line, in order of coming. A reservation for a later job
passes over every earlier one that could have used one of its nodes and holds nothing; a job that has
been passed over ``PASSES_MAX`` times is not passed over again: later jobs are refused until it has been
served or no longer asks. So every job is overtaken a bounded number of times, and as every reservation
ends, none starves. Who takes a free place without asking for a reservation is not seen here.

Nothing here reads a clock or makes up a token: both are given in. What is stored for a restart are
moments on the wall clock, because the seconds of an outage count; on loading, no reservation gets more
time than it had to begin with, however the wall clock was set meanwhile.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

from cachefs.core.hints.asking import WantedGpu
from cachefs.core.hints.fitting import Taken, needed, places, slot_seconds, wants_none
from cachefs.core.hints.nodes import NEVER, Node
from cachefs.errors import NotKnownError

GRACE_SECONDS = 15.0
"""How long after its places should be free a reservation is kept: as long as a first overrun is taken to be."""
SETTLE_SECONDS = 3.0
"""How long a claimed reservation still counts: the inventory is at most a second behind."""
AHEAD_SECONDS_MAX = 3600.0
"""Nothing is promised that is free only later than this."""
LINE_SECONDS = 60.0
"""Who has not asked for so long is no longer in line."""
PASSES_MAX = 64
"""How many later jobs are served before an earlier one comes first: as many as are matched together. With 16, in
simulations of a heavy load, jobs took a seventh to a third longer."""
RESERVATIONS_LIMIT = 10_000
LINE_LIMIT = 10_000


class Place(NamedTuple):
    """Members on a node."""

    node: str
    members: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """A job that asks for places."""

    job: str
    wanted: WantedGpu | None = None
    tenant: str = ""
    candidates: frozenset[str] = frozenset()
    """The nodes that it may use; all for none."""
    selector: Mapping[str, str] = field(default_factory=dict)
    """Labels that a node must have."""

    def may_use(self, node: Node) -> bool:
        """Return whether a node is among those it asks about."""
        if self.candidates and node.name not in self.candidates:
            return False
        return self.selector.items() <= node.labels.items()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """Places that are kept for a job. Moments are on the clock of the calls."""

    token: str
    job: str
    tenant: str
    wanted: WantedGpu | None
    places: tuple[Place, ...]
    made_at: float
    free_at: float
    """When the last of the places is expected to be free."""
    expires_at: float
    runs_seconds: float | None = None
    """How long the job is expected to run."""
    claimed: bool = False

    def until(self, now: float) -> float:
        """Return the moment until which others have to reckon with it: its job has to run first."""
        if self.runs_seconds is None:
            return NEVER
        begins = self.free_at if self.claimed else max(self.free_at, now)
        return max(begins + self.runs_seconds, self.expires_at)


class Refusal(NamedTuple):
    """Why no place was kept."""

    reason: str
    behind: str = ""
    """The job that comes first, if that is why."""


@dataclass(slots=True, kw_only=True)
class _Standing:
    """A job's place in line."""

    asker: Asker
    since: float
    heard_at: float
    passed: int = 0
    waits: int = 0


class Reservations:
    """All reservations, and the line of those who ask. Not safe for concurrent use."""

    def __init__(self, *, passes_max: int = PASSES_MAX) -> None:
        """Start with none.

        Args:
            passes_max: How many later jobs may be served before one that could have used their nodes.
        """
        self._passes_max = passes_max
        self._held: dict[str, Reservation] = {}
        self._by_job: dict[str, str] = {}
        self._line: dict[str, _Standing] = {}

    def line_up(self, *askers: Asker, now: float) -> None:
        """Note that jobs wait for a place. Each keeps its place in line for as long as it goes on asking.

        :meth:`try_reserve` does it by itself. Who has a place, and needs none kept, stays out of the
        line: it would only be passed over.
        """
        self.expire(now)
        for asker in askers:
            standing = self._line.get(asker.job)
            if standing is None:
                self._line[asker.job] = _Standing(asker=asker, since=now, heard_at=now)
            else:
                standing.asker, standing.heard_at = asker, now
        while len(self._line) > LINE_LIMIT:
            del self._line[min(self._line, key=lambda job: self._line[job].heard_at)]

    def leave(self, job: str) -> None:
        """Take a job out of the line: it has started, or is gone."""
        self._line.pop(job, None)

    def waits(self, job: str) -> int:
        """Return how many reservations a job in line has been given to wait for."""
        standing = self._line.get(job)
        return standing.waits if standing is not None else 0

    def passed(self, job: str) -> int:
        """Return how often a job in line has been passed over."""
        standing = self._line.get(job)
        return standing.passed if standing is not None else 0

    def comes_first(self, job: str) -> bool:
        """Return whether a job has been passed over so often that others are refused for it."""
        return self.passed(job) >= self._passes_max

    def try_reserve(
        self,
        asker: Asker,
        where: Sequence[tuple[Node, int]],
        *,
        token: str,
        now: float,
        keep_seconds: float = 0.0,
        runs_seconds: float | None = None,
        together: Collection[str] = (),
    ) -> Reservation | Refusal:
        """Keep places for a job, all of them or none. What it held before is given up for them.

        Args:
            asker: The job; it is in line from now on, if it was not.
            where: Nodes, each once, and how many members are to start there.
            token: A new one, that nobody can guess.
            now: The moment.
            keep_seconds: Keep them at least so long.
            runs_seconds: How long the job is expected to run; ``None`` if nobody knows.
            together: Jobs that get places with this one, so that it passes over none of them.
        """
        self.line_up(asker, now=now)
        own = self._by_job.get(asker.job)
        if own is not None and self._held[own].claimed:
            return Refusal("the job has claimed places already")
        if own is None and len(self._held) >= RESERVATIONS_LIMIT:
            return Refusal(f"{RESERVATIONS_LIMIT} reservations are held already")
        earlier = self._passed_over(asker, [node for node, _ in where], together)
        for each in earlier:
            if each.passed >= self._passes_max:
                reason = f"job {each.asker.job} comes first, it was passed over {each.passed} times"
                return Refusal(reason, each.asker.job)
        taken = self.taken(now=now, but_for=asker.job)
        free_at = _free_at(asker.wanted, where, taken, now)
        if free_at - now > AHEAD_SECONDS_MAX:
            when = "never, as far as is known" if free_at == NEVER else f"in {free_at - now:.0f} s"
            return Refusal(f"its place is free {when}, {AHEAD_SECONDS_MAX:.0f} s are the most")
        self._drop(own)
        for each in earlier if own is None else ():
            each.passed += 1
        if free_at > now:
            self._line[asker.job].waits += 1
        self._held[token] = made = Reservation(
            token=token,
            job=asker.job,
            tenant=asker.tenant,
            wanted=asker.wanted,
            places=tuple(Place(node.name, members) for node, members in where),
            made_at=now,
            free_at=free_at,
            expires_at=max(free_at + GRACE_SECONDS, now + min(keep_seconds, AHEAD_SECONDS_MAX)),
            runs_seconds=runs_seconds,
        )
        self._by_job[asker.job] = token
        return made

    def claim(self, token: str, *, now: float) -> Reservation:
        """Note that the job has been placed where places were kept for it; again is no error.

        Raises:
            NotKnownError: There is no such reservation, or it has expired.
        """
        self.expire(now)
        found = self._held.get(token)
        if found is None:
            raise NotKnownError("no such reservation", subject=token, hint="it may have expired")
        if not found.claimed:
            found = replace(found, claimed=True, free_at=now, expires_at=now + SETTLE_SECONDS)
            self._held[token] = found
            self.leave(found.job)
        return found

    def cancel(self, token: str, *, now: float) -> Reservation | None:
        """Give places back, and leave the line; returns the reservation unless it was gone already."""
        self.expire(now)
        found = self._drop(token)
        if found is not None:
            self.leave(found.job)
        return found

    def give_up(self, job: str) -> None:
        """Give back what a job holds and has not claimed; it stays in line."""
        token = self._by_job.get(job)
        if token is not None and not self._held[token].claimed:
            self._drop(token)

    def expire(self, now: float) -> tuple[Reservation, ...]:
        """Retire what has run out, and return it; who has not asked for long leaves the line."""
        gone = [token for token, each in self._held.items() if each.expires_at <= now]
        silent = [
            job
            for job, each in self._line.items()
            if each.heard_at + LINE_SECONDS <= now and job not in self._by_job
        ]
        for job in silent:
            del self._line[job]
        return tuple(each for token in gone if (each := self._drop(token)) is not None)

    def follow(self, nodes: Mapping[str, Node], *, now: float) -> tuple[Reservation, ...]:
        """Move what is held, and not claimed, to when its places will really be free.

        A release that slips takes those along who wait for it, as long as they go on asking. Others
        give up what cannot be had when it was promised.

        Args:
            nodes: What has changed, as it is now. Places on other nodes stay as they are.
            now: The moment.

        Returns:
            What was given up.
        """
        self.expire(now)
        settling = {
            place.node for each in self._held.values() if each.claimed for place in each.places
        }
        taken: dict[str, list[Taken]] = {}
        lost = []
        for each in [held for held in self._held.values() if not held.claimed]:
            moved: Reservation | None = each
            if all(place.node in nodes for place in each.places):
                where = [(nodes[place.node], place.members) for place in each.places]
                free_at = _free_at(each.wanted, where, taken, now)
                # A job that was just placed is in the inventory or not: nothing is taken to be free early.
                early = free_at < each.free_at and not settling & {node.name for node, _ in where}
                if free_at <= now or early:
                    moved = replace(each, free_at=min(free_at, each.free_at)) if early else each
                elif free_at > each.free_at:
                    moved = self._slipped(each, free_at, now)
            if moved is None:
                lost.append(each)
                self._drop(each.token)
                continue
            self._held[each.token] = moved
            for node, members in moved.places:
                taken.setdefault(node, []).append(Taken(moved.wanted, members, moved.until(now)))
        return tuple(lost)

    def held(self, *, now: float) -> tuple[Reservation, ...]:
        """Return all that count at a moment, in the order in which they were made."""
        return tuple(each for each in self._held.values() if each.expires_at > now)

    def of(self, job: str, *, now: float) -> Reservation | None:
        """Return what a job holds."""
        token = self._by_job.get(job)
        found = self._held.get(token) if token is not None else None
        return found if found is not None and found.expires_at > now else None

    def taken(
        self, *, now: float, but_for: str | frozenset[str] = ""
    ) -> dict[str, tuple[Taken, ...]]:
        """Return what is promised of each node, to others than one job or several."""
        own = {but_for} if isinstance(but_for, str) else but_for
        promised: dict[str, list[Taken]] = {}
        for each in self.held(now=now):
            if each.job not in own:
                for node, members in each.places:
                    taken = Taken(each.wanted, members, each.until(now))
                    promised.setdefault(node, []).append(taken)
        return {node: tuple(each) for node, each in promised.items()}

    def rows(self, *, now: float, wall: float) -> dict[str, dict[str, Any]]:
        """Return everything to be stored, as plain JSON values by key.

        Args:
            now: The moment on the clock of all other calls.
            wall: The same moment, in seconds since 1970.
        """
        shift = wall - now
        rows: dict[str, dict[str, Any]] = {}
        for each in self.held(now=now):
            row = asdict(each)
            for moment in _MOMENTS:
                row[moment] += shift
            row["places"] = [list(place) for place in each.places]
            rows[f"reservation/{each.token}"] = row
        for standing in self._line.values():
            asker = asdict(standing.asker)
            asker["candidates"] = sorted(standing.asker.candidates)
            rows[f"line/{standing.asker.job}"] = {
                "asker": asker,
                "since": standing.since + shift,
                "heard_at": standing.heard_at + shift,
                "passed": standing.passed,
                "waits": standing.waits,
            }
        return rows

    def load(self, rows: Mapping[str, Mapping[str, Any]], *, now: float, wall: float) -> None:
        """Take over what :meth:`rows` returned, perhaps on another machine, in place of all there is."""
        self._held, self._by_job, self._line = {}, {}, {}
        shift = now - wall
        reservations = [row for key, row in rows.items() if key.startswith("reservation/")]
        for row in sorted(reservations, key=lambda each: (each["made_at"], each["token"])):
            moments = {moment: row[moment] + shift for moment in _MOMENTS}
            late = moments["expires_at"] - (now + row["expires_at"] - row["made_at"])
            if late > 0:  # the wall clock was set back
                moments = {moment: at - late for moment, at in moments.items()}
            wanted = None if row["wanted"] is None else WantedGpu(**row["wanted"])
            kept = tuple(Place(*place) for place in row["places"])
            made = Reservation(**{**row, **moments, "wanted": wanted, "places": kept})
            self._held[made.token] = made
            self._by_job[made.job] = made.token
        waiting = [row for key, row in rows.items() if key.startswith("line/")]
        for row in sorted(waiting, key=lambda each: float(each["since"])):
            told = row["asker"]
            wanted = None if told["wanted"] is None else WantedGpu(**told["wanted"])
            candidates = frozenset(told["candidates"])
            asker = Asker(**{**told, "wanted": wanted, "candidates": candidates})
            self._line[asker.job] = _Standing(
                asker=asker,
                since=min(row["since"] + shift, now),
                heard_at=min(row["heard_at"] + shift, now),
                passed=row["passed"],
                waits=row["waits"],
            )
        self.expire(now)

    def _passed_over(
        self, asker: Asker, nodes: Sequence[Node], together: Collection[str]
    ) -> list[_Standing]:
        """Return those before a job in line that hold nothing and could use one of some nodes."""
        fits: dict[tuple[WantedGpu | None, str], bool] = {}

        def could_use(other: Asker, node: Node) -> bool:
            key = other.wanted, node.name
            if key not in fits:
                fits[key] = _ever_fits(node, other.wanted)
            return fits[key] and other.may_use(node)

        earlier = []
        for job, standing in self._line.items():  # in order of coming
            if job == asker.job:
                break
            if job in self._by_job or job in together:
                continue
            if any(could_use(standing.asker, node) for node in nodes):
                earlier.append(standing)
        return earlier

    def _slipped(self, held: Reservation, free_at: float, now: float) -> Reservation | None:
        """Return what becomes of a reservation whose places will be free later than was expected."""
        standing = self._line.get(held.job)
        asks_until = 0.0 if standing is None else standing.heard_at + LINE_SECONDS
        if asks_until <= now or free_at > held.made_at + AHEAD_SECONDS_MAX:
            return None
        # It may be the job itself that took the places, and nobody told: then it asks no more.
        expires_at = max(held.expires_at, min(free_at + GRACE_SECONDS, asks_until))
        return replace(held, free_at=free_at, expires_at=expires_at)

    def _drop(self, token: str | None) -> Reservation | None:
        found = self._held.pop(token, None) if token is not None else None
        if found is not None:
            self._by_job.pop(found.job, None)
        return found


_MOMENTS = ("made_at", "free_at", "expires_at")


def _free_at(
    wanted: WantedGpu | None,
    where: Sequence[tuple[Node, int]],
    taken: Mapping[str, Sequence[Taken]],
    now: float,
) -> float:
    """Return when the last of some places will be free, after what has been promised."""
    wait = 0.0
    for node, members in where:
        if not node.schedulable:
            return NEVER
        if wanted is not None and not wants_none(wanted):
            offered = places(node, wanted, taken.get(node.name, ()))
            wait = max(wait, slot_seconds(offered, wanted, members=members, now=now))
    return now + wait


def _ever_fits(node: Node, wanted: WantedGpu | None) -> bool:
    """Return whether a member could start on a node once all that runs there has ended."""
    if wanted is None or wants_none(wanted):
        return True
    offered = places(node, wanted)
    return sum(each.now + each.later for each in offered) >= needed(wanted)
