"""Consumers: the endpoints that schedulers call in forms of their own, and what is told to others.

Each turns what a scheduler sends into a :class:`~cachefs.core.hints.asking.Question`, asks, and answers
in the scheduler's form. All fail open: whatever goes wrong, the scheduler is told that we have no
opinion, and does what it would have done without us.
"""

from collections.abc import Callable, Sequence

from fastapi import APIRouter

from cachefs.core.tenants import EVERYBODY, Tenants
from cachefs.hints.consumers.admission import Admission, admission_routes
from cachefs.hints.consumers.asking import Ask
from cachefs.hints.consumers.extender import extender_routes
from cachefs.hints.consumers.kueue import kueue_routes
from cachefs.hints.consumers.volcano import volcano_routes
from cachefs.hints.renderings.affinity import Hostname, own_name

__all__ = ["Ask", "routers"]


def routers(
    ask: Ask,
    wall: Callable[[], float],
    *,
    hostname: Hostname = own_name,
    gates: bool = False,
    tenants: Tenants = EVERYBODY,
) -> Sequence[APIRouter]:
    """Return the routes for schedulers that ask by themselves.

    Args:
        ask: Answers a question. It is called in threads, several at once, and may raise anything.
        wall: The time, in seconds since 1970.
        hostname: From a node to the value of its label ``kubernetes.io/hostname``.
        gates: Whether pods may be held by a scheduling gate: only where something takes it away.
        tenants: Says of which namespaces pods get hints about others' datasets.
    """
    admission = Admission(ask=ask, hostname=hostname, gates=gates, tenants=tenants)
    return (
        extender_routes(ask, tenants),
        admission_routes(admission),
        volcano_routes(ask, tenants),
        kueue_routes(ask, wall, tenants),
    )
