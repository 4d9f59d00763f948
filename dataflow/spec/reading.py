"""Reading: a document becomes a :class:`.Flow`, or all that is wrong with it is said at once.

First each section is checked for itself (:mod:`.sections`, :mod:`.kinds`), then what sections say of each
other: that needs are steps and go in no circle, and that each expression names what is there and known by
the time it is evaluated. Checks go on after a fault with whatever can still be told; where one fault
would only follow from another, it is not noted.
"""

from collections.abc import Callable, Iterator, Mapping

from cachefs.dataflow.spec import kinds, scopes, sections
from cachefs.dataflow.spec.document import read_document
from cachefs.dataflow.spec.graph import Graph
from cachefs.dataflow.spec.model import Flow, OnFailure, Place, Retry, Step, Value
from cachefs.dataflow.spec.problems import At, FlowDocumentError, Misfit, Path, quoted
from cachefs.dataflow.spec.scopes import Scope
from cachefs.dataflow.spec.sections import Root, StepOf
from cachefs.dataflow.spec.templates import texts

SUBFLOWS_DEPTH_MAX = 4
"""Flows within flows."""

_USUAL_KINDS = {
    "copy": "migrate",
    "sync": "migrate",
    "warm": "prefetch",
    "warmup": "prefetch",
    "preload": "prefetch",
    "dataload": "prefetch",
    "run": "process",
    "job": "process",
    "script": "process",
    "container": "process",
    "command": "process",
    "http": "notify",
    "webhook": "notify",
    "slack": "notify",
    "deploy": "rollout",
    "promote": "publish",
    "release": "publish",
    "activate": "publish",
    "sleep": "wait",
    "suspend": "approve",
    "delete": "evict",
    "subflow": "flow",
}
_PlaceOf = Callable[[Path], Place]


def read_flow(text: str, *, name: str) -> Flow:
    """Read a flow.

    Args:
        text: YAML or JSON.
        name: Of the file, for messages.

    Raises:
        ConfigError: A ``FlowDocumentError`` with every problem that there is.
    """
    document = read_document(text, file=name)
    at = At()
    flow = _Reading(document.value, at, document.place).flow()
    if at.faults or flow is None:
        raise FlowDocumentError([document.problem(fault) for fault in at.faults])
    return flow


class _Reading:
    """One flow, the document itself or one within it."""

    def __init__(self, value: Value, at: At, place: _PlaceOf, depth: int = 0) -> None:
        self._value = value
        self._at = at
        self._place = place
        self._depth = depth
        self._steps = dict(_steps_of(value, "steps"))
        self._finally = dict(_steps_of(value, "finally"))
        ids = {"steps": _ids(self._steps), "finally": _ids(self._finally)}
        self._ids = ids
        self._all_ids = frozenset((*ids["steps"], *ids["finally"]))
        self._graph = Graph(
            {
                step: _needs_of(raw)
                for raws in (self._steps, self._finally)
                for step, raw in _by_id(raws).items()
            }
        )
        self._params = frozenset(_params_of(value))

    def flow(self) -> Flow | None:
        """Return the flow; ``None`` if there are faults."""
        before = len(self._at.faults)
        root: Root | None = None
        try:
            root = sections.ROOT(self._value, self._at)
        except Misfit:
            root = None
        known = {
            part: [self._step(part, path, raw) for path, raw in raws.items()]
            for part, raws in (("steps", self._steps), ("finally", self._finally))
        }
        self._graph_faults()
        self._loose_templates()
        if root is None or len(self._at.faults) > before:
            return None
        return self._made(root, known)

    def _made(self, root: Root, known: Mapping[str, list[StepOf | None]]) -> Flow:
        retry = root.spec.defaults.retry.over(Retry())
        made = {
            part: tuple(
                self._model(step, path, root, retry)
                for step, path in zip(known[part], raws, strict=True)
                if step is not None
            )
            for part, raws in (("steps", self._steps), ("finally", self._finally))
        }
        return Flow(
            namespace=root.metadata.namespace,
            name=root.metadata.name,
            labels=root.metadata.labels,
            params=root.spec.params or {},
            triggers=root.spec.triggers,
            concurrency=root.spec.concurrency,
            budget=root.spec.budget,
            steps=made["steps"],
            finally_=made["finally"],
        )

    def _model(self, step: StepOf, path: Path, root: Root, retry: Retry) -> Step:
        defaults = root.spec.defaults
        on_failure: OnFailure = step.on_failure or defaults.on_failure
        if "finally" in path and step.on_failure is None:
            on_failure = "fail"
        # People take as long as they take, whatever limit machines have.
        usual = None if step.kind == "approve" else defaults.timeout
        return Step(
            id=step.id,
            kind=step.kind,
            needs=step.needs,
            condition=scopes.bare_condition(step.if_),
            foreach=step.foreach,
            arguments=step.with_,
            retry=step.retry.over(retry),
            timeout_seconds=usual if step.timeout is None else step.timeout,
            on_failure=on_failure,
            compensate=step.compensate,
            placement=step.placement or {},
            outputs=step.outputs,
            place=self._place((*self._at.path, *path)),
        )

    def _step(self, part: str, path: Path, raw: Mapping[str, Value]) -> StepOf | None:
        at = self._inner(path)
        kind = raw.get("kind")
        if isinstance(kind, str) and kind not in kinds.KINDS:
            usual = _USUAL_KINDS.get(kind.lower())
            if usual:
                at["kind"].fault(f"unknown kind {quoted(kind)}", f"did you mean {usual}?")
            else:
                at["kind"].unknown("kind", kind, kinds.KINDS)
        elif "kind" in raw and not isinstance(kind, str):
            at["kind"].fault("not a kind", f"there is {', '.join(kinds.KINDS)}")
        try:
            step: StepOf | None = sections.STEP(raw, at)
        except Misfit:
            step = None
        if isinstance(kind, str) and kind in kinds.KINDS:
            self._arguments(part, raw, at)
        self._expressions(part, raw, at)
        return step

    def _inner(self, path: Path) -> At:
        at = self._at
        for key in path:
            at = at[key]
        return at

    def _arguments(self, part: str, raw: Mapping[str, Value], at: At) -> None:
        kind = raw["kind"]
        given = raw.get("with", {})
        if isinstance(given, Mapping):
            kinds.note_faults(kind, given, at["with"] if "with" in raw else at)
            self._targets(raw, given, at)
        if isinstance(raw.get("compensate"), Mapping):
            kinds.note_compensation_faults(kind, raw["compensate"], at["compensate"])
        if part == "finally":
            if raw.get("on_failure") == "rollback":
                at["on_failure"].fault("nothing is rolled back any more when finally runs")
            if "compensate" in raw:
                at["compensate"].fault("what finally does is not undone", at_key=True)
        document = given.get("document") if isinstance(given, Mapping) else None
        if kind == "flow" and isinstance(document, Mapping):
            inner = at["with"]["document"]
            if self._depth + 1 >= SUBFLOWS_DEPTH_MAX:
                inner.fault(f"flows nested more than {SUBFLOWS_DEPTH_MAX} deep")
            else:
                _Reading(document, inner, self._place, self._depth + 1).flow()

    def _targets(self, raw: Mapping[str, Value], given: Mapping[str, Value], at: At) -> None:
        """Note a ``wait`` or ``verify`` that nobody told what to look at."""
        if raw["kind"] not in ("wait", "verify") or {"dataset", "of", "duration"} & given.keys():
            return
        step = raw.get("id")
        above = (
            one.get("id")
            for one in (*self._steps.values(), *self._finally.values())
            if one.get("kind") == "prefetch"
        )
        if isinstance(step, str) and any(
            isinstance(one, str) and self._graph.is_needed(one, step) for one in above
        ):
            return
        hint = "give with.dataset, or need a prefetch step"
        at.fault(f"this {raw['kind']} has no files to look at", hint)

    def _scope(self, part: str, raw: Mapping[str, Value], *, status: bool = False) -> Scope:
        step = raw.get("id")
        main = self._ids["steps"] if part == "finally" else frozenset[str]()

        def is_over(other: str) -> bool:
            return other in main or (isinstance(step, str) and self._graph.is_needed(other, step))

        return Scope(params=self._params, steps=self._all_ids, is_needed=is_over, status=status)

    def _expressions(self, part: str, raw: Mapping[str, Value], at: At) -> None:
        scope = self._scope(part, raw)
        condition = raw.get("if")
        if isinstance(condition, str) and condition:
            scopes.check_condition(condition, self._scope(part, raw, status=True), at["if"])
        foreach = raw.get("foreach")
        each = ""
        if isinstance(foreach, Mapping):
            self._templates(foreach, at["foreach"], scope)
            each = next((key for key in foreach if key not in sections.FOREACH_KEYS), "")
        scope = scopes.with_each(scope, each)
        for key in ("with", "compensate", "placement"):
            opaque = kinds.opaque(raw.get("kind")) if key == "with" else ()
            if isinstance(raw.get(key), Mapping):
                known = {name: one for name, one in raw[key].items() if name not in opaque}
                self._templates(known, at[key], scope)
        outputs = raw.get("outputs")
        if isinstance(outputs, Mapping):
            for name, text in outputs.items():
                if isinstance(text, str):
                    scopes.check_expression(text, scopes.with_result(scope), at["outputs"][name])
        self._same_as(raw, at, scope)

    def _same_as(self, raw: Mapping[str, Value], at: At, scope: Scope) -> None:
        placement = raw.get("placement")
        other = placement.get("same-as") if isinstance(placement, Mapping) else None
        if isinstance(other, str) and "${" not in other:
            place = at["placement"]["same-as"]
            if other not in self._all_ids:
                place.unknown("step", other, self._all_ids)
            elif not scope.is_needed(other):
                place.fault(f"{other} may not have run yet", f"add {other} to needs")

    def _templates(self, value: Value, at: At, scope: Scope) -> None:
        for path, text in texts(value):
            inner = at
            for key in path:
                inner = inner[key]
            scopes.check_template(text, scope, inner)

    def _loose_templates(self) -> None:
        """Check the templates of what is no step."""
        spec = self._value.get("spec") if isinstance(self._value, Mapping) else None
        if not isinstance(spec, Mapping):
            return
        scope = Scope(params=self._params)
        for key in ("concurrency", "triggers"):
            self._templates(spec.get(key), self._at["spec"][key], scope)

    def _graph_faults(self) -> None:
        seen: dict[str, Path] = {}
        for part, raws in (("steps", self._steps), ("finally", self._finally)):
            for path, raw in raws.items():
                step = raw.get("id")
                at = self._inner(path)
                if isinstance(step, str) and step in seen:
                    line = self._place((*self._at.path, *seen[step], "id")).line
                    at["id"].fault(f"a second step {quoted(step)}", f"see line {line}")
                elif isinstance(step, str):
                    seen[step] = path
                self._needs(part, raw, at)
        for cycle in self._graph.cycles():
            at = self._inner(seen[cycle[0]])["needs"]
            if len(cycle) == 1:
                at.fault("a step cannot need itself")
            else:
                at.fault(f"steps that wait for each other: {' → '.join((*cycle, cycle[0]))}")

    def _needs(self, part: str, raw: Mapping[str, Value], at: At) -> None:
        needs = raw.get("needs")
        for index, need in enumerate(needs if isinstance(needs, list) else ()):
            if not isinstance(need, str) or need in self._ids[part]:
                continue
            place = at["needs"][index]
            if need not in self._all_ids:
                hint = place.nearest(need, self._ids[part]) or "needs has ids of steps"
                place.fault(f"unknown step {quoted(need)}", hint)
            elif part == "steps":
                place.fault(f"{need} is in finally, which begins when all steps are over")
            else:
                place.fault(f"{need} is over anyway when finally begins", "leave it out")


def _steps_of(value: Value, part: str) -> Iterator[tuple[Path, Mapping[str, Value]]]:
    spec = value.get("spec") if isinstance(value, Mapping) else None
    steps = spec.get(part) if isinstance(spec, Mapping) else None
    for index, raw in enumerate(steps if isinstance(steps, list) else ()):
        if isinstance(raw, Mapping):
            yield ("spec", part, index), raw


def _params_of(value: Value) -> tuple[str, ...]:
    spec = value.get("spec") if isinstance(value, Mapping) else None
    params = spec.get("params") if isinstance(spec, Mapping) else None
    return tuple(params) if isinstance(params, Mapping) else ()


def _by_id(raws: Mapping[Path, Mapping[str, Value]]) -> dict[str, Mapping[str, Value]]:
    return {raw["id"]: raw for raw in raws.values() if isinstance(raw.get("id"), str)}


def _ids(raws: Mapping[Path, Mapping[str, Value]]) -> frozenset[str]:
    return frozenset(_by_id(raws))


def _needs_of(raw: Mapping[str, Value]) -> tuple[str, ...]:
    needs = raw.get("needs")
    return tuple(need for need in needs if isinstance(need, str)) if isinstance(needs, list) else ()
