"""Contexts of steps for tests: what is noted is kept, as the store would keep it."""

import json

from cachefs.dataflow.engine.context import AttemptContext, StepIdentity
from cachefs.transport.runtime import ThreadRuntime

RUNTIME = ThreadRuntime()


class Steps:
    """One step of a run, whose attempts share a checkpoint."""

    def __init__(self, step="step", *, run="run-1", namespace="team", undo=False):
        self.checkpoint = {}
        self.told = []
        self._step, self._run, self._namespace, self._undo = step, run, namespace, undo

    def attempt(self, number=1, *, seconds=20.0, undo=False, runtime=RUNTIME, meanwhile=None):
        """Return a context; with ``meanwhile`` it waits for nothing, and calls that instead."""
        identity = StepIdentity(
            run=self._run,
            step=self._step,
            attempt=number,
            namespace=self._namespace,
            undo=undo or self._undo,
        )
        made = AttemptContext if meanwhile is None else Hurried
        context = made(
            identity,
            runtime,
            deadline=runtime.monotonic() + seconds,
            checkpoint=self.checkpoint,
            write_note=self._note,
        )
        context.meanwhile = meanwhile
        return context

    def _note(self, _identity, text):
        self.checkpoint = json.loads(text)


class Hurried(AttemptContext):
    """One whose waits take no time: something happens meanwhile."""

    def sleep(self, seconds):
        if seconds:
            self.meanwhile()
        super().sleep(0.0)


def carry_out(kind, context, arguments):
    """Do a step as the engine does; return what was observed at its end."""
    while not (observed := kind.observe(context, arguments)).done:
        kind.apply(context, arguments)
    return observed
