"""``process``: a program has run, and ended well.

Each attempt has one room, and in a room a program is started once, so whichever coordinator goes on with
an attempt finds its program running or ended. A coordinator that ends or dies leaves programs alone; a
step that is cancelled or out of time ends its own, with all that it had started, within two seconds.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os.path import normpath
from pathlib import Path

from cachefs.core.names import printable
from cachefs.dataflow.ports import Observed, StepContext, StepKind
from cachefs.dataflow.records import Progress
from cachefs.dataflow.spec import kinds
from cachefs.dataflow.spec.arguments import MountOf, Process, RunInstead
from cachefs.dataflow.spec.model import Value
from cachefs.dataflow.steps.choosing import name_of
from cachefs.dataflow.steps.programs.places import Places
from cachefs.dataflow.steps.programs.rooms import Found, look, tail
from cachefs.errors import (
    CapacityError,
    DeadlineError,
    FlowError,
    LeaseExpiredError,
    StepCancelledError,
    StepTransientError,
)

OUTPUTS = "outputs.json"
OUTPUTS_BYTES_MAX = 64 * 1024
_LOG_BYTES = 4096
_LOG_LINES = 20
_LINE_LENGTH = 200
_LOOK_SECONDS = 0.02
_LOOK_SECONDS_MAX = 0.5
_OWN_OUTPUTS = ("exit_code", "log")


@dataclass(frozen=True, slots=True)
class Codes:
    """What exit codes mean."""

    success: tuple[int, ...] = (0,)
    retry: tuple[int, ...] = ()


class ProcessStep(StepKind):
    """Done when the program has ended with a code that is a success."""

    def __init__(self, places: Places) -> None:
        """Run programs in some places."""
        self._places = places

    def observe(self, context: StepContext, arguments: Mapping[str, Value]) -> Observed:
        """Look how the program of this attempt stands."""
        wanted: Process = kinds.check("process", arguments)
        room = self._places.room(context)
        found = look(room)
        if found.standing in ("none", "starting", "running"):
            return Observed(done=False, progress=_progress(context, found))
        judge(context, room, found, Codes(wanted.success_codes, wanted.retry_codes))
        return Observed(
            done=True, progress=_progress(context, found), outputs=_outputs(room, found)
        )

    def apply(self, context: StepContext, arguments: Mapping[str, Value]) -> None:
        """Have it run, and wait for its end."""
        wanted: Process = kinds.check("process", arguments)
        self._run(context, wanted, wanted.command)

    def compensate(
        self, context: StepContext, arguments: Mapping[str, Value], how: Mapping[str, Value]
    ) -> None:
        """Run the other program."""
        back: RunInstead = kinds.check_compensation("process", how)
        wanted: Process = kinds.check("process", arguments)
        self._run(context, wanted, back.command)
        room = self._places.room(context)
        judge(context, room, look(room), Codes(retry=wanted.retry_codes))

    def _run(self, context: StepContext, wanted: Process, command: tuple[str, ...]) -> None:
        secrets = {name: self._places.revealed(text) for name, text in wanted.secrets.items()}
        run(
            self._places,
            context,
            command,
            workdir=wanted.workdir,
            variables={**wanted.env, **secrets},
            mounts=wanted.mounts,
        )


def run(
    places: Places,
    context: StepContext,
    command: tuple[str, ...],
    *,
    workdir: str,
    variables: Mapping[str, str],
    room: Path | None = None,
    mounts: Sequence[MountOf] = (),
) -> None:
    """Have a program run once, and return when it has ended, however.

    Args:
        places: Where.
        context: Of the step.
        command: The program and its arguments.
        workdir: The folder that it runs in; empty for its room.
        variables: Of its environment.
        room: Where it runs; the attempt's own, if nothing else is said.
        mounts: What it finds as folders; those that are not absolute are below the folder it runs in.

    Raises:
        ConfigError: Nothing can be mounted here.
        DeadlineError: It was ended, because the attempt's time is over.
        StepCancelledError: Likewise, because nobody wants it any more; unless the step was abandoned:
            then it goes on.
    """
    places.trim()
    if room is None:
        room = places.room(context)
        places.rooms.stop(places.earlier(context))
    if look(room).standing == "none":
        context.tell(f"it runs {printable(Path(command[0]).name)}")
    given = {"CACHEFS_OUTPUTS": str(room / OUTPUTS), **variables}
    folder = Path(workdir or room)
    program = places.program(
        context,
        command,
        workdir=folder,
        variables=given,
        mounts={normpath(folder / one.path): _whole(context, one) for one in mounts},
    )
    places.rooms.begin(room, program)
    try:
        pause = _LOOK_SECONDS
        while (found := places.rooms.look(room)).active:
            context.report(_progress(context, found))
            context.sleep(pause)
            pause = min(1.5 * pause, _LOOK_SECONDS_MAX)
    except (StepCancelledError, DeadlineError, LeaseExpiredError):
        if places.tethered or not context.abandoned:
            places.rooms.stop([room])
        raise


def _whole(context: StepContext, mount: MountOf) -> str:
    """Return a dataset as it is mounted, with its namespace: it may be called ``list``."""
    name = name_of(context, mount.dataset)
    version = f"@{mount.dataset.version}" if mount.dataset.version else ""
    return f"{name.namespace}/{name.name}{version}"


def judge(context: StepContext, room: Path, found: Found, codes: Codes) -> None:
    """Say what the end of a program means.

    Raises:
        FlowError: It has failed.
        StepTransientError: It says that it may succeed another time, or something has ended it.
    """
    if found.standing == "lost" or found.stopped:
        raise StepTransientError("the program was ended from outside", subject=context.step)
    if found.failure:
        raise FlowError("the program cannot be started", subject=context.step, hint=found.failure)
    if found.code in codes.success:
        return
    how = f"with {found.code}" if (found.code or 0) >= 0 else f"by signal {-(found.code or 0)}"
    kind = StepTransientError if found.code in codes.retry else FlowError
    raise kind(f"the program ended {how}", subject=context.step, hint=_last_line(room))


def _last_line(room: Path) -> str:
    lines = [line.strip() for line in tail(room, _LOG_BYTES).splitlines() if line.strip()]
    return printable(lines[-1])[:_LINE_LENGTH] if lines else ""


def _progress(context: StepContext, found: Found) -> Progress:
    if found.standing == "ended":
        return Progress(done=found.seconds, total=found.seconds, unit="seconds")
    seconds = context.runtime.wall() - found.started_at if found.started_at else 0.0
    return Progress(done=max(0.0, seconds), unit="seconds", note=found.standing)


def _outputs(room: Path, found: Found) -> Mapping[str, Value]:
    lines = tail(room, _LOG_BYTES).splitlines()[-_LOG_LINES:]
    return {**_written(room), "exit_code": found.code, "log": "\n".join(map(printable, lines))}


def _written(room: Path) -> Mapping[str, Value]:
    """Return what the program wrote for the steps that come after it."""
    try:
        with (room / OUTPUTS).open("rb") as file:
            text = file.read(OUTPUTS_BYTES_MAX + 1)
    except FileNotFoundError:
        return {}
    if len(text) > OUTPUTS_BYTES_MAX:
        raise CapacityError(f"outputs of more than {OUTPUTS_BYTES_MAX} bytes", subject=OUTPUTS)
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FlowError("the program's outputs are not JSON", subject=OUTPUTS) from error
    if not isinstance(document, dict) or not {*_OWN_OUTPUTS}.isdisjoint(document):
        hint = f"write a mapping without {' and '.join(_OWN_OUTPUTS)}"
        raise FlowError("the program's outputs cannot be used", subject=OUTPUTS, hint=hint)
    return document
