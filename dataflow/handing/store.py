"""Programs and targets that are handed out, in the store: statements, as functions of a connection.

What a step wants of a row and what an executor reports of it are written by different processes, into
different columns. A report never goes back: see :data:`STATES`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, Row, and_, select, update

from cachefs.coordinator.store import counters
from cachefs.coordinator.store.tables import PROGRAMS, TARGETS
from cachefs.errors import NotKnownError

ProgramState = Literal["wanted", "claimed", "starting", "running", "ended"]
STATES: tuple[ProgramState, ...] = ("wanted", "claimed", "starting", "running", "ended")
"""Of a program, in this order: nobody has begun it; an executor is about to; what it made is there; the
program runs; it is over."""
EXECUTORS = "executors"
"""The counter that grows while some executor asks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What an executor has seen of a program."""

    code: int | None = None
    """Its exit code, once it has ended; ``None`` if it never ran."""
    stopped: bool = False
    """Whether it ended because it was asked to."""
    lost: bool = False
    """Whether what ran it is gone, or was ended by somebody else."""
    failure: str = ""
    """Why it could not be started."""
    note: str = ""
    """What a person should see while it lasts: ``ImagePullBackOff: …``."""
    log: str = ""
    """The end of what it wrote."""
    outputs: str = ""
    """What it wrote for the steps that come after it."""
    started_at: float = 0.0
    """Seconds since 1970; 0 if it has not started."""
    seconds: float = 0.0
    """How long it ran, once it has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramRow:
    """A program that is handed out."""

    id: str
    """Of lower-case letters and digits; never used for another one."""
    run: str
    step: str
    attempt: int
    part: str
    """Which of the attempt's programs; empty for the only one."""
    namespace: str
    wanted: Mapping[str, Any]  # Any: JSON
    state: ProgramState = "wanted"
    stop: bool = False
    """Whether it is to end."""
    report: Report = Report()

    @property
    def active(self) -> bool:
        """Whether it is not over."""
        return self.state != "ended"


def program_id(key: str, attempt: int, part: str) -> str:
    """Return what a program is called for ever."""
    return blake2b(f"{key}/{attempt}/{part}".encode(), digest_size=10).hexdigest()


def add_program(connection: Connection, row: ProgramRow) -> None:
    """Store a program that is wanted, unless it is there; others of the step are to end."""
    _stop(
        connection,
        and_(PROGRAMS.c.run == row.run, PROGRAMS.c.step == row.step, PROGRAMS.c.id != row.id),
    )
    if find_program(connection, row.id) is None:
        values = asdict(row) | {"wanted": json.dumps(row.wanted), "report": _text(row.report)}
        connection.execute(PROGRAMS.insert().values(**values))


def find_program(connection: Connection, program: str, *, lock: bool = False) -> ProgramRow | None:
    """Return a program, or ``None``; nobody else changes a locked one until the transaction ends."""
    query = select(PROGRAMS).where(PROGRAMS.c.id == program)
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    return None if row is None else _program(row)


def last_program(
    connection: Connection, run: str, step: str, attempt: int | None
) -> ProgramRow | None:
    """Return the program of a step's attempt, or of its last one; ``None`` if there is none."""
    query = select(PROGRAMS).where(
        PROGRAMS.c.run == run, PROGRAMS.c.step == step, PROGRAMS.c.part == ""
    )
    if attempt is not None:
        query = query.where(PROGRAMS.c.attempt == attempt)
    row = connection.execute(query.order_by(PROGRAMS.c.attempt.desc()).limit(1)).one_or_none()
    return None if row is None else _program(row)


def active_programs(connection: Connection) -> tuple[ProgramRow, ...]:
    """Return the programs that are not over, sorted by id."""
    query = select(PROGRAMS).where(PROGRAMS.c.state != "ended").order_by(PROGRAMS.c.id)
    return tuple(_program(row) for row in connection.execute(query))


def stop_program(connection: Connection, program: str) -> None:
    """Have a program end; one that nobody has begun never will be, and is over."""
    _stop(connection, PROGRAMS.c.id == program)


def _stop(connection: Connection, chosen: ColumnElement[bool]) -> None:
    unbegun = and_(chosen, PROGRAMS.c.state == "wanted")
    over = {"stop": True, "state": "ended", "report": _text(Report(stopped=True))}
    connection.execute(update(PROGRAMS).where(unbegun).values(**over))
    begun = and_(chosen, PROGRAMS.c.state != "ended")
    connection.execute(update(PROGRAMS).where(begun).values(stop=True))


def report_program(
    connection: Connection, program: str, state: ProgramState, report: Report
) -> ProgramRow:
    """Take in what an executor has seen; what is older than what is known changes nothing.

    Raises:
        NotKnownError: There is no such program.
    """
    found = find_program(connection, program, lock=True)
    if found is None:
        raise NotKnownError("no such program", subject=program)
    if not found.active or STATES.index(state) < STATES.index(found.state):
        return found
    connection.execute(
        update(PROGRAMS).where(PROGRAMS.c.id == program).values(state=state, report=_text(report))
    )
    return find_program(connection, program) or found


def _program(row: Row[Any]) -> ProgramRow:
    return ProgramRow(
        id=row.id,
        run=row.run,
        step=row.step,
        attempt=row.attempt,
        part=row.part,
        namespace=row.namespace,
        wanted=json.loads(row.wanted),
        state=row.state,
        stop=row.stop,
        report=Report(**json.loads(row.report)),
    )


def _text(value: Report) -> str:
    return json.dumps(asdict(value))


# ---- targets ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetRow:
    """A target of rollouts that is handed out."""

    name: str
    """``NAMESPACE/deployment/NAME``."""
    asked: int = 0
    """How often somebody has asked how it stands."""
    answered: int = 0
    """Up to which of these it has been answered."""
    shape: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON
    """What it shall have, and ``by`` which run and step that is said, or asked how it stands: ``RUN/STEP``."""
    revisions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # Any: JSON
    """What each revision is that was kept."""
    report: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON
    """As it was seen last."""


def find_target(connection: Connection, name: str, *, lock: bool = False) -> TargetRow | None:
    """Return a target, or ``None``; nobody else changes a locked one until the transaction ends."""
    query = select(TARGETS).where(TARGETS.c.name == name)
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    return None if row is None else _target(row)


def ask_target(connection: Connection, name: str) -> int:
    """Ask how a target stands; return what is answered by that number, or a greater one."""
    if find_target(connection, name, lock=True) is None:
        empty = {"shape": "{}", "revisions": "{}", "report": "{}"}
        connection.execute(TARGETS.insert().values(name=name, asked=1, answered=0, **empty))
        return 1
    asked = connection.execute(
        update(TARGETS)
        .where(TARGETS.c.name == name)
        .values(asked=TARGETS.c.asked + 1)
        .returning(TARGETS.c.asked)
    ).scalar_one()
    return int(asked)


def change_target(connection: Connection, name: str, **values: Mapping[str, Any]) -> None:
    """Write what a target shall have (``shape``), or what its revisions are (``revisions``)."""
    written = {key: json.dumps(value) for key, value in values.items()}
    connection.execute(update(TARGETS).where(TARGETS.c.name == name).values(**written))


def asked_targets(connection: Connection) -> tuple[TargetRow, ...]:
    """Return the targets that somebody has asked about and nobody has answered, sorted by name."""
    query = select(TARGETS).where(TARGETS.c.asked > TARGETS.c.answered).order_by(TARGETS.c.name)
    return tuple(_target(row) for row in connection.execute(query))


def report_target(
    connection: Connection,
    name: str,
    *,
    asked: int,
    report: Mapping[str, Any],  # Any: JSON
) -> TargetRow:
    """Take in how a target stands, as the answer to all that was asked up to a number.

    Raises:
        NotKnownError: Nobody has asked about such a target.
    """
    found = find_target(connection, name, lock=True)
    if found is None:
        raise NotKnownError("no such target", subject=name)
    if asked > found.answered:
        connection.execute(
            update(TARGETS)
            .where(TARGETS.c.name == name)
            .values(answered=min(asked, found.asked), report=json.dumps(report))
        )
    return find_target(connection, name) or found


def _target(row: Row[Any]) -> TargetRow:
    return TargetRow(
        name=row.name,
        asked=row.asked,
        answered=row.answered,
        shape=json.loads(row.shape),
        revisions=json.loads(row.revisions),
        report=json.loads(row.report),
    )


# ---- executors ----------------------------------------------------------------------------------


def beat(connection: Connection) -> None:
    """Note that an executor has asked."""
    counters.add(connection, EXECUTORS)


def beats(connection: Connection) -> int:
    """Return a number that grows while executors ask."""
    return counters.read(connection).get(EXECUTORS, 0)


def shown(rows: Sequence[ProgramRow]) -> list[ProgramRow]:
    """Return which of the active programs an executor may begin or must end.

    One that nobody has begun waits until all others of its step are over, so that two attempts never
    run at once.
    """
    active: dict[tuple[str, str], int] = {}
    for row in rows:
        active[row.run, row.step] = active.get((row.run, row.step), 0) + 1
    return [row for row in rows if row.state != "wanted" or active[row.run, row.step] == 1]
