"""The sections of a document: what keys each has, before steps are looked at as parts of a flow."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from cachefs.core.cron import parse as parse_cron
from cachefs.core.names import DEFAULT_NAMESPACE
from cachefs.dataflow.spec import references, shapes
from cachefs.dataflow.spec.model import (
    Budget,
    Concurrency,
    Foreach,
    OnFailure,
    Policy,
    Retry,
    Trigger,
    Value,
)
from cachefs.dataflow.spec.problems import At, kind_of, quoted
from cachefs.dataflow.spec.shapes import Record, option, options
from cachefs.dataflow.spec.templates import has_template
from cachefs.errors import ConfigError

API_VERSION = "cachefs/v1"
RETRIES_MAX = 1000
_ON = "the key is triggers: to YAML 1.1, on is a truth value"


def _exactly(word: str) -> shapes.Shape[str]:
    def shape(value: Value, at: At) -> str:
        if value == word:
            return word
        known = isinstance(value, str) and value.startswith("data.fluid.io/")
        hint = "`cachefs flow import` reads Fluid's documents" if known else ""
        shown = quoted(value) if isinstance(value, str) else kind_of(value)
        raise at.fault(f"{shown}, where {word} is needed", hint)

    return shape


def _timeout(value: Value, at: At) -> float:
    seconds = shapes.duration(value, at)
    if seconds <= 0:
        raise at.fault("no time at all", "leave it out for no limit")
    return seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """``backoff`` of a retry; ``None``: as the defaults say."""

    base: float | None = option(shapes.duration, None)
    factor: float | None = option(shapes.number(1.0, 10.0), None)
    max: float | None = option(shapes.duration, None)
    jitter: bool | None = option(shapes.flag, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryOf:
    """``retry``; ``None``: as the defaults say."""

    max: int | None = option(shapes.whole(0, RETRIES_MAX), None)
    backoff: Backoff = option(Record(Backoff), Backoff())
    when: tuple[str, ...] | None = option(
        shapes.list_of(shapes.one_of("transient", "timeout", "any"), least=1), None
    )

    def over(self, defaults: Retry) -> Retry:
        """Return the defaults with what is said here in their place."""
        said = {
            "max": self.max,
            "base_seconds": self.backoff.base,
            "factor": self.backoff.factor,
            "max_seconds": self.backoff.max,
            "jitter": self.backoff.jitter,
            "when": self.when,
        }
        known: dict[str, Any] = {key: value for key, value in said.items() if value is not None}
        return replace(defaults, **known)


_RETRY = Record(RetryOf, hints={"on": "the key is when: to YAML 1.1, on is a truth value"})
_ON_FAILURE = shapes.one_of("fail", "continue", "rollback")


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """``defaults``: of every step that says nothing else."""

    retry: RetryOf = option(_RETRY, RetryOf())
    timeout: float | None = option(_timeout, None)
    on_failure: OnFailure = option(_ON_FAILURE, "fail")


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """``metadata``."""

    name: str = option(shapes.name("flow"))
    namespace: str = option(shapes.name("namespace"), DEFAULT_NAMESPACE)
    labels: Mapping[str, str] = options(shapes.text)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Budget:
    origin_bytes: int | None = option(shapes.size, None)
    egress_usd: float | None = option(shapes.number(0.0, 1e12), None)
    wall: float | None = option(_timeout, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Concurrency:
    group: str = option(shapes.text)
    policy: Policy = option(shapes.one_of("queue", "cancel", "reject"), "queue")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Nothing:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class _Event:
    dataset: str = option(shapes.text)
    revision: str = option(shapes.one_of("published"), "published")
    params: Mapping[str, Value] = options(shapes.anything)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Webhook:
    secret: str = option(references.secret, "")
    params: Mapping[str, Value] = options(shapes.anything)


def _cron(value: Value) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"{kind_of(value)}, where text is needed", hint='write "0 3 * * *"')
    parse_cron(value)
    return value


_EMPTY = shapes.as_written(Record(_Nothing))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trigger:
    manual: Mapping[str, Value] | None = option(_EMPTY, None)
    cron: str = option(shapes.parsed(_cron), "")
    event: Mapping[str, Value] | None = option(shapes.as_written(Record(_Event)), None)
    webhook: Mapping[str, Value] | None = option(shapes.as_written(Record(_Webhook)), None)


_ONE_TRIGGER = Record(_Trigger, exactly_one=(("manual", "cron", "event", "webhook"),))


def _trigger(value: Value, at: At) -> Trigger:
    known = _ONE_TRIGGER(value, at)
    return Trigger(
        manual=known.manual is not None,
        cron=known.cron,
        event=known.event,
        webhook=known.webhook,
    )


def _budget(value: Value, at: At) -> Budget:
    known = Record(_Budget)(value, at)
    return Budget(
        origin_bytes=known.origin_bytes, egress_usd=known.egress_usd, wall_seconds=known.wall
    )


def _concurrency(value: Value, at: At) -> Concurrency:
    known = Record(_Concurrency)(value, at)
    return Concurrency(group=known.group, policy=known.policy)


def _params(value: Value, at: At) -> Mapping[str, Value]:
    given = shapes.mapping(value, at)
    for key, item in given.items():
        if not key.isidentifier() or not key.isascii():
            hint = "use letters, digits and _"
            at[key].fault(f"not a parameter's name: {quoted(key)}", hint, at_key=True)
        if has_template(item):
            at[key].fault("a template, where its own value is needed")
    return given


def _steps(value: Value, at: At) -> tuple[Mapping[str, Value], ...]:
    return shapes.list_of(shapes.mapping)(value, at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """``spec``; its steps are still mappings."""

    params: Mapping[str, Value] | None = option(_params, None)
    triggers: tuple[Trigger, ...] = option(shapes.list_of(_trigger), ())
    concurrency: Concurrency | None = option(_concurrency, None)
    budget: Budget = option(_budget, Budget())
    defaults: Defaults = option(Record(Defaults), Defaults())
    steps: tuple[Mapping[str, Value], ...] = option(_steps)
    finally_: tuple[Mapping[str, Value], ...] = option(_steps, ())


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """The whole document."""

    apiVersion: str = option(_exactly(API_VERSION))  # noqa: N815 - as Kubernetes writes it
    kind: str = option(_exactly("Flow"))
    metadata: Metadata = option(Record(Metadata))
    spec: Spec = option(Record(Spec, hints={"on": _ON, "true": _ON, "jobs": "did you mean steps?"}))


ROOT = Record(Root, hints={"on": f"{_ON}; it is in spec", "steps": "it is in spec"})


FOREACH_KEYS = ("max_parallel", "fail_fast")


def foreach(value: Value, at: At) -> Foreach:
    """``foreach``: ``{NAME: values, max_parallel: N, fail_fast: …}``."""
    given = shapes.mapping(value, at)
    names = [key for key in given if key not in FOREACH_KEYS]
    if len(names) != 1:
        hint = "write {NAME: [a, b]}, and use ${each.NAME}"
        near = [at.nearest(name, FOREACH_KEYS) for name in names] if names else []
        hint = next((one for one in near if one), hint)
        raise at.fault(
            f"needs one name with its values, and has {', '.join(names) or 'none'}", hint
        )
    name = names[0]
    shapes.identifier(name, at[name])
    if name == "index":
        raise at[name].fault("index is what each.index is", "use another name", at_key=True)
    values = given[name]
    if not isinstance(values, list) and not (isinstance(values, str) and values.startswith("${")):
        raise at[name].fault(f"{kind_of(values)}, where a list is needed", "or ${…} of one")
    most = shapes.whole(0, shapes.ITEMS_MAX)(given.get("max_parallel", 0), at["max_parallel"])
    fast = shapes.flag(given.get("fail_fast", True), at["fail_fast"])
    return Foreach(name=name, values=values, max_parallel=most, fail_fast=fast)


def _condition(value: Value, at: At) -> str:
    """``if``: an expression, also within ``${…}``; YAML makes ``if: true`` a truth value."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return shapes.text(value, at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """``placement``: where a step is carried out, where that matters."""

    same_as: str = option(shapes.text, "", key="same-as")
    zone: str = option(shapes.text, "")
    nodes: Mapping[str, str] = options(shapes.text)
    """Labels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOf:
    """A step; what holds templates is still as it was written."""

    id: str = option(shapes.step_id)
    kind: Any = option(shapes.anything)  # Any: checked before
    needs: tuple[str, ...] = option(shapes.list_of(shapes.text), ())
    if_: str = option(_condition, "")
    foreach: Foreach | None = option(foreach, None)
    with_: Mapping[str, Value] = options(shapes.anything)
    retry: RetryOf = option(_RETRY, RetryOf())
    timeout: float | None = option(_timeout, None)
    on_failure: OnFailure | None = option(_ON_FAILURE, None)
    compensate: Mapping[str, Value] | None = option(shapes.mapping, None)
    placement: Mapping[str, Value] | None = option(shapes.as_written(Record(Placement)), None)
    outputs: Mapping[str, str] = options(shapes.text)


STEP = Record(
    StepOf,
    hints={
        "name": "did you mean id?",
        "depends": "did you mean needs?",
        "depends_on": "did you mean needs?",
        "dependsOn": "did you mean needs?",
        "runAfter": "did you mean needs?",
        "uses": "did you mean kind?",
        "when": "did you mean if?",
        "matrix": "did you mean foreach?",
        "timeout-minutes": "did you mean timeout?",
        "continue-on-error": "write on_failure: continue",
        "on": "to YAML 1.1, on is a truth value; did you mean on_failure?",
    },
)
