"""Keeping: reservations and lessons that outlive the process.

Theory of operation. The rules of reservations are pure (:mod:`cachefs.core.hints.reserving`) and their state
is in memory, where every question reads it. A change is a transaction of the store, and nobody hears of it
before it is committed: :meth:`Keeper.changing` first queues up with all other changes, those of other
coordinators included, takes over what they have stored, lets the caller change the state in memory, and
stores the rows that have changed. If that fails, the state in memory is worth nothing, and is read anew
before the next change. Others may see a place as taken a moment before its keeping is certain; that does
no harm.

Moments are stored on the wall clock, by a shift that stays the same while the process runs, so that a row
which has not changed looks the same and is not written again.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Connection

from cachefs.coordinator.store import hints as rows
from cachefs.coordinator.store.engine import Store
from cachefs.core.hints.fitting import Taken
from cachefs.core.hints.learning import Lessons
from cachefs.core.hints.reserving import Reservations
from cachefs.ports import Runtime

_UNKNOWN = -1
_LESSONS = "all"
_HELD = "reservation/"
"""How the keys of reservations begin, as :meth:`.Reservations.rows` makes them."""


@dataclass(frozen=True, slots=True)
class KeptPlace:
    """A reservation, for people."""

    token: str
    job: str
    nodes: tuple[str, ...]
    """The node of each member."""
    expires_at: float
    """Seconds since 1970."""


class Keeper:
    """Keeps reservations. Safe from any thread."""

    def __init__(self, store: Store, runtime: Runtime) -> None:
        """Take over what is stored.

        Raises:
            CoordinatorUnavailableError: The store does not answer.
        """
        self._store = store
        self._runtime = runtime
        self._shift = runtime.wall() - runtime.monotonic()
        self._changing = runtime.condition()  # held while a change is stored: reservations queue up
        self._turn = runtime.condition()  # held while the state is looked at, never for long
        self._reservations = Reservations()
        self._stored: dict[str, str] = {}
        self._revision = _UNKNOWN
        self.changes = 0
        """Grows with every change that is noticed here."""
        self.refresh()

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Open a change: what is done with :meth:`reservations` within is stored at the end.

        An error that leaves it undoes the change.

        Raises:
            CoordinatorUnavailableError: The store does not answer; nothing has changed.
        """
        with self._changing:
            before, self._revision = self._revision, _UNKNOWN
            with self._store.write() as connection:
                revision = rows.lock(connection)
                if before != revision - 1:
                    self._load(connection)
                yield
                self._save(connection)
            self._revision = revision

    @contextmanager
    def reservations(self) -> Iterator[Reservations]:
        """Open the state, to be looked at, or within :meth:`changing` to be changed."""
        with self._turn:
            yield self._reservations

    def taken(self, *, but_for: str | frozenset[str] = "") -> dict[str, tuple[Taken, ...]]:
        """Return what is promised of each node, to others than one job or several."""
        with self._turn:
            return self._reservations.taken(now=self._runtime.monotonic(), but_for=but_for)

    def held(self) -> tuple[KeptPlace, ...]:
        """Return all reservations, those that expire first in front."""
        with self._turn:
            found = self._reservations.held(now=self._runtime.monotonic())
        by_end = sorted(found, key=lambda each: (each.expires_at, each.token))
        return tuple(
            KeptPlace(
                each.token,
                each.job,
                tuple(place.node for place in each.places for _ in range(place.members)),
                self.wall(each.expires_at),
            )
            for each in by_end
        )

    def refresh(self) -> None:
        """Follow the store, and what has expired.

        Raises:
            CoordinatorUnavailableError: The store does not answer.
        """
        with self._changing:
            if self._store.is_shared or self._revision == _UNKNOWN:
                with self._store.read() as connection:
                    revision = rows.revision(connection)
                    if revision != self._revision:
                        self._load(connection)
                        self._revision = revision
            now = self._runtime.monotonic()
            with self._turn:
                held = len(self._reservations.held(now=now))
                expired = held < sum(key.startswith(_HELD) for key in self._stored)
        if expired:
            with self.changing(), self.reservations() as reservations:
                reservations.expire(now)

    def wall(self, moment: float) -> float:
        """Return a moment of the monotonic clock in seconds since 1970."""
        return moment + self._shift

    def _load(self, connection: Connection) -> None:
        stored = rows.reservations(connection)
        now = self._runtime.monotonic()
        documents = {key: json.loads(text) for key, text in stored.items()}
        with self._turn:
            self._reservations.load(documents, now=now, wall=self.wall(now))
            self._stored = stored
            self.changes += 1

    def _save(self, connection: Connection) -> None:
        now = self._runtime.monotonic()
        with self._turn:
            documents = self._reservations.rows(now=now, wall=self.wall(now))
        found = {key: json.dumps(each, sort_keys=True) for key, each in documents.items()}
        changed = {key: text for key, text in found.items() if self._stored.get(key) != text}
        rows.change_reservations(connection, put=changed, remove=self._stored.keys() - found.keys())
        self._stored = found
        self.changes += 1


def load_lessons(store: Store) -> Lessons:
    """Return what outcomes have taught so far.

    Raises:
        CoordinatorUnavailableError: The store does not answer.
    """
    lessons = Lessons()
    with store.read() as connection:
        stored = rows.lessons(connection, _LESSONS)
    if stored is not None:
        lessons.restore(json.loads(stored))
    return lessons


def save_lessons(store: Store, document: Mapping[str, object]) -> None:
    """Store what outcomes have taught: :meth:`.Lessons.document`.

    Raises:
        CoordinatorUnavailableError: The store does not answer.
    """
    text = json.dumps(document, sort_keys=True)
    with store.write() as connection:
        rows.put_lessons(connection, _LESSONS, text)
