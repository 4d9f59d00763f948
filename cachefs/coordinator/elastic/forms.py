"""How policies are written: the same form in YAML, in the HTTP API and in the store.

Times are text with a unit (``90s``, ``20m``, ``7d``). A field that is not known is refused, so that a
misspelt one is not silently without effect. What the values mean is checked where the rules are.
"""

import json
import math
from typing import Annotated, Any

from pydantic import Field, ValidationError, model_validator

from cachefs.config.units import parse_duration
from cachefs.coordinator.bodies import Body, Text
from cachefs.core import autoscaling, cron, idling
from cachefs.core.autoscaling import Idle, Measure, Policy, Rule, Scheduled, Target
from cachefs.core.idling import EVERYTHING, IdlePolicy
from cachefs.core.names import parse_name, printable
from cachefs.core.pools import WORKERS_MAX
from cachefs.errors import ConfigError

_RULES_MAX = 32
Count = Annotated[int, Field(ge=0, le=WORKERS_MAX)]
Duration = Annotated[str, Field(max_length=32)]


class ScheduleForm(Body):
    """At least so many workers from one minute to another, in UTC."""

    begins: Text
    """Cron: five fields, or ``@daily`` and the like."""
    ends: Text
    workers: Count


class RuleForm(Body):
    """One rule; exactly one of the fields is given."""

    target: dict[Measure, float] | None = None
    """One measure with its target: ``queued_fills`` a worker, ``capacity`` or ``hit_ratio`` from 0 to 1."""
    schedule: ScheduleForm | None = None
    idle: Duration | None = None
    """No worker at all, once nothing was read for so long."""

    @model_validator(mode="after")
    def _check(self) -> "RuleForm":
        if sum(each is not None for each in (self.target, self.schedule, self.idle)) != 1:
            raise ValueError("a rule is one of target, schedule, idle")
        if self.target is not None and len(self.target) != 1:
            raise ValueError("a target has one measure")
        return self

    def value(self) -> Rule:
        """Return the rule."""
        if self.target is not None:
            ((measure, aim),) = self.target.items()
            return Target(measure, aim)
        if self.schedule is not None:
            begins, ends = cron.parse(self.schedule.begins), cron.parse(self.schedule.ends)
            return Scheduled(begins, ends, self.schedule.workers)
        return Idle(parse_duration(self.idle or ""))


class PoolPolicyForm(Body):
    """How a pool follows what is asked of it."""

    least: Count = 1
    """Fewer only when idle."""
    most: Count
    cooldown: Duration = "1m"
    """Between two changes."""
    calm: Duration = "5m"
    """A pool shrinks when less was enough for so long."""
    rules: Annotated[list[RuleForm], Field(min_length=1, max_length=_RULES_MAX)]

    def value(self) -> Policy:
        """Return the policy.

        Raises:
            ConfigError: It makes no sense.
        """
        policy = Policy(
            rules=tuple(rule.value() for rule in self.rules),
            least=self.least,
            most=self.most,
            cooldown_seconds=parse_duration(self.cooldown),
            calm_seconds=parse_duration(self.calm),
        )
        targets = (rule.value for rule in policy.rules if isinstance(rule, Target))
        if not all(math.isfinite(aim) for aim in targets):
            raise ConfigError("a target is a number")
        autoscaling.check_policy(policy)
        return policy


class IdlePolicyForm(Body):
    """What becomes of a dataset that nobody uses; nothing is done for what is absent."""

    demote_after: Duration | None = None
    """Its blocks in memory go to disk."""
    evict_after: Duration | None = None
    """All its blocks go."""

    def value(self) -> IdlePolicy:
        """Return the policy.

        Raises:
            ConfigError: It makes no sense.
        """
        policy = IdlePolicy(
            demote_after=_seconds(self.demote_after), evict_after=_seconds(self.evict_after)
        )
        idling.check_policy(policy)
        return policy


class PoliciesForm(Body):
    """All policies."""

    pools: dict[Text, PoolPolicyForm] = Field(default_factory=dict)
    """By the pool's name."""
    datasets: dict[Text, IdlePolicyForm] = Field(default_factory=dict)
    """By scope: a dataset, a namespace, or ``*`` for everything; the nearest one counts, whole."""


class PoliciesChangeForm(Body):
    """Policies to set; ``null`` takes one away, and what is not named stays."""

    pools: dict[Text, PoolPolicyForm | None] = Field(default_factory=dict)
    datasets: dict[Text, IdlePolicyForm | None] = Field(default_factory=dict)


def parse_change(document: object) -> PoliciesChangeForm:
    """Read policies to set.

    Raises:
        ConfigError: Something in it is not as it must be; says where.
    """
    try:
        return PoliciesChangeForm.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        message = f"not a policy: {first['msg'].removeprefix('Value error, ')}"
        raise ConfigError(message, subject=printable(where)) from error


def parse_scope(text: str) -> str:
    """Return the scope that people write, as policies have it.

    Raises:
        ConfigError: It is none.
    """
    if text == "*":
        return EVERYTHING
    for part in text.split("/", 1):
        parse_name(part, kind="dataset" if "/" in text else "namespace")
    return text


def show_scope(scope: str) -> str:
    """Return a scope as people write it."""
    return scope or "*"


def encode(form: Body) -> str:
    """Return a policy as it is stored."""
    return form.model_dump_json(exclude_none=True)


def decode_pool(text: str) -> PoolPolicyForm:
    """Return a stored policy of a pool."""
    return PoolPolicyForm.model_validate(_decoded(text))


def decode_idle(text: str) -> IdlePolicyForm:
    """Return a stored policy for idle datasets."""
    return IdlePolicyForm.model_validate(_decoded(text))


def _decoded(text: str) -> Any:  # Any: what JSON holds
    return json.loads(text)


def _seconds(text: str | None) -> float | None:
    return None if text is None else parse_duration(text)
