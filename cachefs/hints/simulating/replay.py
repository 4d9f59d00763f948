"""A replay: one trace, one world, one policy, from the first request until the last has run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cachefs.errors import ConfigError
from cachefs.hints.simulating.asking import Asking
from cachefs.hints.simulating.choosing import Policy
from cachefs.hints.simulating.hinting import Hinting, Reserving
from cachefs.hints.simulating.links import NEVER
from cachefs.hints.simulating.policies import Label, ServerlessLlm, Spread, WarmLabel
from cachefs.hints.simulating.traces import Trace
from cachefs.hints.simulating.world import Job, Site, World

POLICIES: Mapping[str, Callable[[World, int], Policy]] = {
    "spread": Spread,
    "label": Label,
    "label+warm": WarmLabel,
    "serverlessllm": ServerlessLlm,
    "hint": Hinting,
    "hint+ask": Asking,
    "hint+reserve": Reserving,
}
"""By the name that the command line knows, with the world and the seed."""


@dataclass(frozen=True, slots=True)
class Played:
    """What came of a replay."""

    jobs: tuple[Job, ...]
    """In the order of their arrival; all have ended."""
    origin_bytes: float


def replay(
    trace: Trace, sizes: Mapping[str, float], site: Site, policy: str, *, seed: int
) -> Played:
    """Play a trace to its end.

    Raises:
        ConfigError: There is no such policy, or a request fits on no node.
    """
    check_policy(policy)
    widest = max(request.gpus for request in trace.requests)
    if widest > max(site.gpus):
        raise ConfigError(f"a request wants {widest} accelerators, no node has so many")
    world = World(site)
    chooser = POLICIES[policy](world, seed)
    jobs = [
        Job(number, request, sizes[request.model]) for number, request in enumerate(trace.requests)
    ]
    waiting: dict[int, Job] = {}
    arrived = 0
    while True:
        arrival = jobs[arrived].request.at if arrived < len(jobs) else NEVER
        moment = min(arrival, world.next(), chooser.wake() if waiting else NEVER)
        if moment == NEVER:
            break
        world.advance(moment)
        happened = bool(world.ended) or chooser.wake() <= moment
        _tell(world, chooser)
        while arrived < len(jobs) and jobs[arrived].request.at <= moment:
            waiting[arrived] = jobs[arrived]
            arrived += 1
            happened = True
        while happened and waiting and (placing := chooser.choose(waiting)) is not None:
            del waiting[placing.job.number]
            world.place(placing.job, placing.gpus)
    if waiting:
        raise ConfigError(f"{len(waiting)} requests were never started by {policy}")
    return Played(tuple(jobs), world.origin_bytes)


def check_policy(policy: str) -> None:
    """See to it that there is such a policy.

    Raises:
        ConfigError: There is none.
    """
    if policy not in POLICIES:
        raise ConfigError(f"no policy {policy!r}", hint="one of " + ", ".join(POLICIES))


def _tell(world: World, chooser: Policy) -> None:
    for job in world.ready:
        chooser.ready(job)
    for job in world.ended:
        chooser.ended(job)
    world.ready.clear()
    world.ended.clear()
