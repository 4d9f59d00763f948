"""Manning: who is there when ``cachefs up`` begins.

The pools in the coordinator's store say how many workers there shall be, the roster says who there was.
``--workers N`` is a wish like any other: the default pool shall have N. Without it, the pool is as it was
left, however often it was scaled since the first ``up``. Workers that are too many are started too: what
they hold is handed over before they go.
"""

from cachefs.cli.system.following import CALL_SECONDS, pool_of
from cachefs.cli.system.plan import Blueprint
from cachefs.core.datasets import DEFAULT_POOL
from cachefs.core.pools import compare
from cachefs.transport.api import Api


def man(blueprint: Blueprint, api: Api, *, workers: int | str | None) -> None:
    """Put on the roster who is missing, and clear away who was stopped.

    Args:
        blueprint: Whose roster.
        api: The coordinator, which runs already.
        workers: What ``--workers`` said; ``None`` for nothing.

    Raises:
        ConfigError: As many are out of the pool's bounds.
    """
    for entry in blueprint.roster.entries():
        if entry.state == "stopped":
            blueprint.clear_away(entry.name)
            blueprint.roster.remove(entry.name)
    pool = api.get(f"/v1/pools/{DEFAULT_POOL}", timeout_seconds=CALL_SECONDS)
    if workers is not None or pool["wanted"] is None:
        wanted = blueprint.plan.workers
        if pool["wanted"] != wanted:
            reason = "" if workers is None else f"--workers {wanted}"
            change = {"wanted": wanted, "by": "cachefs up", "reason": reason}
            api.fetch("PUT", f"/v1/pools/{DEFAULT_POOL}", change, timeout_seconds=CALL_SECONDS)
    for document in api.get("/v1/pools", timeout_seconds=CALL_SECONDS)["pools"]:
        for zone in compare(pool_of(document), blueprint.roster.provided()).start:
            blueprint.roster.add(document["name"], zone or blueprint.zone)
