"""``rollout``: a target has its replicas of a revision, and each batch of them was healthy.

Where a rollout stands is seen from the target: how many replicas live, how many are ready. The checkpoint
has only what cannot be seen there: which batches have passed their health gate, and what there was before.
So a coordinator that comes after another goes on with the same batch, and starts no replica twice.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b

from cachefs.dataflow.ports import Hints, Observed, StepContext, StepKind
from cachefs.dataflow.records import Progress
from cachefs.dataflow.spec import kinds
from cachefs.dataflow.spec.arguments import Health, RollBack, Rollout
from cachefs.dataflow.spec.model import Value
from cachefs.dataflow.steps import processing
from cachefs.dataflow.steps.choosing import name_of
from cachefs.dataflow.steps.programs.running import Programs, Wanted
from cachefs.dataflow.steps.rollouts import shaping
from cachefs.dataflow.steps.rollouts.targets import Replica, RolloutTarget, Targets, Towards
from cachefs.errors import FlowError

_LOOK_SECONDS = 0.1
_HINT_SECONDS = 1.0
"""How often a hint is asked for again that says: not in time."""
_PASSED = "passed"
"""In the checkpoint: batches that have passed; it is there as soon as the first one begins."""
_BEGAN = "began"
"""When the batch began, in seconds since 1970: failures before it are not its own."""
_ATTEMPT = "attempt"
_NEXT = "next"
"""When the next batch may begin, in seconds since 1970."""
_BEFORE = "before"
"""Replicas in all when the step first began."""


class RolloutStep(StepKind):
    """Done when all replicas are ready, none is of another revision, and each batch has passed."""

    def __init__(self, targets: Targets, programs: Programs, hints: Hints) -> None:
        """Roll out to targets.

        Args:
            targets: Finds them.
            programs: Runs those that say whether all is well.
            hints: Whether replicas would be ready in time.
        """
        self._targets = targets
        self._programs = programs
        self._hints = hints

    def observe(self, context: StepContext, arguments: Mapping[str, Value]) -> Observed:
        """Count the replicas."""
        wanted: Rollout = kinds.check("rollout", arguments)
        target = self._targets.open(context, wanted.target)
        revision = revision_of(wanted)
        replicas = target.replicas()
        now = shaping.standing(replicas, revision)
        there = now.ready == now.new == wanted.replicas and not now.old
        passed = context.checkpoint().get(_PASSED)
        done = there and passed in (None, len(shaping.batches(wanted.batch, wanted.replicas)))
        mine = [one for one in replicas if one.revision == revision and one.state == "ready"]
        outputs = {
            "target": wanted.target,
            "revision": revision,
            "replicas": now.ready,
            "ready_p95": round(shaping.ready_p95(mine), 3),
        }
        return Observed(done, _progress(now, wanted.replicas), outputs if done else {})

    def apply(self, context: StepContext, arguments: Mapping[str, Value]) -> None:
        """Go on with the batches."""
        wanted: Rollout = kinds.check("rollout", arguments)
        target = self._targets.open(context, wanted.target)
        revision = revision_of(wanted)
        target.keep(revision, wanted)
        checkpoint = dict(context.checkpoint())
        if _PASSED not in checkpoint:
            live = sum(one.state != "failed" for one in target.replicas())
            checkpoint |= {_PASSED: 0, _BEFORE: live, _NEXT: 0.0}
        if checkpoint.get(_ATTEMPT) != context.attempt:  # what failed before this one is forgiven
            checkpoint |= {_ATTEMPT: context.attempt, _BEGAN: context.runtime.wall()}
        context.note(checkpoint)
        goals = shaping.batches(wanted.batch, wanted.replicas)
        while (passed := int(context.checkpoint()[_PASSED])) < len(goals):
            wait = float(context.checkpoint()[_NEXT]) - context.runtime.wall()
            context.sleep(min(max(0.0, wait), wanted.interval))
            self._await_hint(context, wanted)
            size = goals[passed] - (goals[passed - 1] if passed else 0)
            self._batch(context, target, wanted, revision, goal=goals[passed], size=size)
            self._ask(context, wanted, passed, revision=revision, replicas=goals[passed])
            context.tell(f"{goals[passed]} replicas of {revision} are ready")
            now = context.runtime.wall()
            after = {_PASSED: passed + 1, _BEGAN: now, _NEXT: now + wanted.interval}
            context.note({**context.checkpoint(), **after})

    def compensate(
        self, context: StepContext, arguments: Mapping[str, Value], how: Mapping[str, Value]
    ) -> None:
        """Go back to a revision, or to a number of replicas."""
        back: RollBack = kinds.check_compensation("rollout", how)
        wanted: Rollout = kinds.check("rollout", arguments)
        target = self._targets.open(context, wanted.target)
        revision = back.to_revision or revision_of(wanted)
        before = int(context.checkpoint().get(_BEFORE, wanted.replicas))
        replicas = before if back.replicas is None else back.replicas
        if replicas and not target.knows(revision):
            if wanted.image and revision != revision_of(wanted):
                hint = "a flow must have rolled it out once"
                raise FlowError("nobody knows its image", subject=revision, hint=hint)
            target.keep(revision, wanted)
        gently = replace(wanted, replicas=replicas, batch=(), health=Health())
        began = {_BEGAN: context.runtime.wall()}
        context.note({**context.checkpoint(), **began})
        self._batch(context, target, gently, revision, goal=replicas, size=replicas)

    def _batch(
        self,
        context: StepContext,
        target: RolloutTarget,
        wanted: Rollout,
        revision: str,
        *,
        goal: int,
        size: int,
    ) -> None:
        """Bring a target to a batch's replicas, all of them ready; one that is not healthy stops it."""
        began = float(context.checkpoint().get(_BEGAN, 0.0))
        while True:
            replicas = target.replicas()
            batch = _batch_of(replicas, revision, began)
            fault = shaping.fault(batch, wanted.health, size=size, now=context.runtime.wall())
            if fault:
                raise FlowError(f"{wanted.target} is not healthy: {fault}", subject=context.step)
            now = shaping.standing(replicas, revision)
            context.report(_progress(now, wanted.replicas))
            shape = shaping.shape(
                now, revision, goal=goal, replicas=wanted.replicas, surge=wanted.surge
            )
            has = {
                name: count
                for name, count in ({revision: now.new} | dict(now.old)).items()
                if count
            }
            whole = shape == has or (not target.exact and goal < wanted.replicas)
            if whole and now.ready >= goal:
                return
            context.sleep(0.0)
            if shape != has or any(not one.started_at for one in replicas):
                towards = Towards(revision, goal, wanted.replicas, wanted.surge)
                target.reshape(context, shape, towards=towards)
            context.sleep(_LOOK_SECONDS)

    def _await_hint(self, context: StepContext, wanted: Rollout) -> None:
        """Wait until a replica would be ready in time somewhere; not, if nobody can tell."""
        deadline, dataset = wanted.hint.deadline, wanted.hint.dataset
        if deadline is None or dataset is None:
            return
        told = False
        while True:
            found = self._hints.soonest(name_of(context, dataset), dataset.version)
            if found is None or found.seconds <= deadline:
                return
            note = (
                f"a replica would be ready in {found.seconds:.3g} s, on {found.node}, which waits for "
                f"{found.bottleneck}; {deadline:g} s are allowed"
            )
            context.report(Progress(total=wanted.replicas, unit="replicas", note=note))
            if not told:
                context.tell(note)
                told = True
            context.sleep(_HINT_SECONDS)

    def _ask(
        self, context: StepContext, wanted: Rollout, number: int, *, revision: str, replicas: int
    ) -> None:
        """Ask the program that knows whether a batch is healthy.

        Raises:
            FlowError: It is not.
        """
        if not wanted.health.command:
            return
        part = f"health-{number}"
        variables = {"CACHEFS_REVISION": revision, "CACHEFS_REPLICAS": str(replicas)}
        asked = Wanted(command=wanted.health.command, variables=variables, image=wanted.image)
        found = processing.run(self._programs, context, asked, part=part)
        processing.judge(self._programs, context, found, processing.Codes(), part=part)


def revision_of(wanted: Rollout) -> str:
    """Return the name of what a rollout rolls out."""
    if wanted.revision:
        return wanted.revision
    if wanted.image:
        return wanted.image
    return blake2b(json.dumps(wanted.command).encode(), digest_size=5).hexdigest()


def _batch_of(replicas: Sequence[Replica], revision: str, began: float) -> list[Replica]:
    """Return the replicas that were started since a batch began; those that are just starting, too."""
    return [
        one
        for one in replicas
        if one.revision == revision and (one.started_at >= began or not one.started_at)
    ]


def _progress(now: shaping.Standing, replicas: int) -> Progress:
    leaving = f"{sum(now.old.values())} of other revisions" if now.old else ""
    return Progress(done=now.ready, total=replicas, unit="replicas", note=leaving)
