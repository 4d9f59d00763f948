"""``process``: a program has run, and ended well.

Each attempt has one program, which is started once, so whichever coordinator goes on with an attempt
finds its program running or ended. A coordinator that ends or dies leaves programs alone; a step that
is cancelled or out of time ends its own, with all that it had started. Where programs run is behind
:class:`~cachefs.dataflow.steps.programs.running.Programs`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cachefs.core.names import printable
from cachefs.dataflow.ports import Observed, StepContext, StepKind
from cachefs.dataflow.records import Progress
from cachefs.dataflow.spec import kinds
from cachefs.dataflow.spec.arguments import Process, RunInstead
from cachefs.dataflow.spec.model import Value
from cachefs.dataflow.steps.programs.inrooms import OUTPUTS
from cachefs.dataflow.steps.programs.rooms import Found
from cachefs.dataflow.steps.programs.running import Programs, Wanted
from cachefs.errors import (
    DeadlineError,
    FlowError,
    LeaseExpiredError,
    StepCancelledError,
    StepTransientError,
)

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

    def __init__(self, programs: Programs) -> None:
        """Run programs somewhere."""
        self._programs = programs

    def observe(self, context: StepContext, arguments: Mapping[str, Value]) -> Observed:
        """Look how the program of this attempt stands."""
        wanted: Process = kinds.check("process", arguments)
        found = self._programs.look(context)
        if found.standing in ("none", "starting", "running"):
            return Observed(done=False, progress=_progress(context, found))
        judge(self._programs, context, found, Codes(wanted.success_codes, wanted.retry_codes))
        return Observed(
            done=True, progress=_progress(context, found), outputs=self._outputs(context, found)
        )

    def apply(self, context: StepContext, arguments: Mapping[str, Value]) -> None:
        """Have it run, and wait for its end."""
        wanted: Process = kinds.check("process", arguments)
        run(self._programs, context, Wanted.of(wanted, wanted.command))

    def compensate(
        self, context: StepContext, arguments: Mapping[str, Value], how: Mapping[str, Value]
    ) -> None:
        """Run the other program."""
        back: RunInstead = kinds.check_compensation("process", how)
        wanted: Process = kinds.check("process", arguments)
        found = run(self._programs, context, Wanted.of(wanted, back.command))
        judge(self._programs, context, found, Codes(retry=wanted.retry_codes))

    def _outputs(self, context: StepContext, found: Found) -> Mapping[str, Value]:
        lines = self._programs.tail(context, _LOG_BYTES).splitlines()[-_LOG_LINES:]
        written = _written(self._programs.outputs(context))
        return {**written, "exit_code": found.code, "log": "\n".join(map(printable, lines))}


def run(programs: Programs, context: StepContext, wanted: Wanted, *, part: str = "") -> Found:
    """Have a program run once, and return how it stands when it has ended, however.

    Args:
        programs: Where.
        context: Of the step.
        wanted: The program.
        part: Which of the attempt's programs.

    Raises:
        ConfigError: It cannot be run there as it is wanted.
        DeadlineError: It was ended, because the attempt's time is over.
        StepCancelledError: Likewise, because nobody wants it any more; unless the step was abandoned:
            then it goes on.
    """
    if programs.look(context, part=part).standing == "none":
        context.tell(f"it runs {printable(Path(wanted.command[0]).name)}")
    programs.begin(context, wanted, part=part)
    told = ""
    try:
        pause = _LOOK_SECONDS
        while (found := programs.look(context, part=part)).active:
            context.report(_progress(context, found))
            if found.note not in ("", told):
                told = found.note
                context.tell(told)
            context.sleep(pause)
            pause = min(1.5 * pause, _LOOK_SECONDS_MAX)
    except (StepCancelledError, DeadlineError, LeaseExpiredError):
        if programs.tethered or not context.abandoned:
            programs.stop(context, part=part)
        raise
    return found


def judge(
    programs: Programs, context: StepContext, found: Found, codes: Codes, *, part: str = ""
) -> None:
    """Say what the end of a program means.

    Raises:
        FlowError: It has failed.
        StepTransientError: It says that it may succeed another time, or something has ended it.
    """
    if found.standing == "lost" or found.stopped:
        raise StepTransientError(
            "the program was ended from outside", subject=context.step, hint=found.note
        )
    if found.failure:
        raise FlowError("the program cannot be started", subject=context.step, hint=found.failure)
    if found.code in codes.success:
        return
    how = f"with {found.code}" if (found.code or 0) >= 0 else f"by signal {-(found.code or 0)}"
    kind = StepTransientError if found.code in codes.retry else FlowError
    hint = _last_line(programs.tail(context, _LOG_BYTES, part=part)) or found.note
    raise kind(f"the program ended {how}", subject=context.step, hint=hint)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return printable(lines[-1])[:_LINE_LENGTH] if lines else ""


def _progress(context: StepContext, found: Found) -> Progress:
    if found.standing == "ended":
        return Progress(done=found.seconds, total=found.seconds, unit="seconds")
    seconds = context.runtime.wall() - found.started_at if found.started_at else 0.0
    note = found.note or found.standing
    return Progress(done=max(0.0, seconds), unit="seconds", note=note)


def _written(text: bytes) -> Mapping[str, Value]:
    """Return what the program wrote for the steps that come after it."""
    if not text:
        return {}
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FlowError("the program's outputs are not JSON", subject=OUTPUTS) from error
    if not isinstance(document, dict) or not {*_OWN_OUTPUTS}.isdisjoint(document):
        hint = f"write a mapping without {' and '.join(_OWN_OUTPUTS)}"
        raise FlowError("the program's outputs cannot be used", subject=OUTPUTS, hint=hint)
    return document
