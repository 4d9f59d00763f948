"""The HTTP API's routes of policies, with their bodies."""

from collections.abc import Callable
from dataclasses import dataclass

from fastapi import APIRouter

from cachefs.coordinator.bodies import Body
from cachefs.coordinator.elastic.forms import PoliciesChangeForm, PoliciesForm, show_scope
from cachefs.coordinator.elastic.policies import Policies, PolicySet
from cachefs.coordinator.elastic.scaling import Verdict
from cachefs.core.idling import Recovery


@dataclass(frozen=True, slots=True)
class Outlook:
    """What policies would decide right now."""

    pools: tuple[Verdict, ...]
    recoveries: tuple[Recovery, ...]


class SeenBody(Body):
    """What is seen of a pool."""

    workers: int
    """That are wanted, or there if nobody has said."""
    capacity_used: float
    queued_fills: float
    hit_ratio: float | None
    idle_seconds: float


class VerdictBody(Body):
    """What a pool's policy says now."""

    pool: str
    seen: SeenBody
    recommended: int
    """By the rules for this moment alone."""
    wanted: int | None
    """What the pool is changed to; ``null`` if it is left as it is."""
    why: str

    @classmethod
    def of(cls, verdict: Verdict) -> "VerdictBody":
        """Show a verdict."""
        seen = {name: getattr(verdict.seen, name) for name in SeenBody.model_fields}
        return cls(
            pool=verdict.pool,
            seen=SeenBody(**seen),
            recommended=verdict.recommended.workers,
            wanted=None if verdict.change is None else verdict.change.wanted,
            why=verdict.why,
        )


class RecoveryBody(Body):
    """What becomes of an idle dataset."""

    dataset: str
    action: str
    """``demote`` or ``evict``."""
    bytes: int
    why: str

    @classmethod
    def of(cls, recovery: Recovery) -> "RecoveryBody":
        """Show what is done."""
        return cls(
            dataset=str(recovery.dataset),
            action=recovery.action,
            bytes=recovery.size,
            why=recovery.reason,
        )


class OutlookBody(Body):
    """What policies would decide right now."""

    pools: list[VerdictBody]
    datasets: list[RecoveryBody]


def _shown(policies: PolicySet) -> PoliciesForm:
    return PoliciesForm(
        pools=dict(policies.pools),
        datasets={show_scope(scope): form for scope, form in policies.datasets.items()},
    )


def policy_routes(
    policies: Policies, outlook: Callable[[PoliciesChangeForm | None], Outlook]
) -> APIRouter:
    """Return the routes of policies."""
    router = APIRouter(prefix="/v1/policies", tags=["policies"])

    @router.get("", response_model_exclude_none=True)
    def list_policies() -> PoliciesForm:
        """Return all policies."""
        return _shown(policies.every())

    @router.patch("", response_model_exclude_none=True)
    def change_policies(body: PoliciesChangeForm) -> PoliciesForm:
        """Set policies, or with ``null`` take them away: all of it, or nothing."""
        return _shown(policies.change(body))

    @router.post("/plan")
    def plan(body: PoliciesChangeForm) -> OutlookBody:
        """Say what would be decided right now, if these policies were set, too; changes nothing."""
        found = outlook(body)
        return OutlookBody(
            pools=[VerdictBody.of(one) for one in found.pools],
            datasets=[RecoveryBody.of(one) for one in found.recoveries],
        )

    return router
