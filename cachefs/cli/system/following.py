"""Following: what pools shall be, the provider of this machine makes so.

Once a second the pools are asked for and compared with the workers that there are
(:mod:`cachefs.core.pools`). Workers that are missing are started. One that is too many is *drained*
first: it hands over what only it holds, and is stopped and removed when it has. Nothing is kept here
that matters: whoever is killed, the next look finds what there is.

A drain is bounded. It goes on as long as it moves; it is given up, and the worker stopped with what it
still held, when the worker did not come further, or did not answer, for ``GIVE_UP_SECONDS``, or when nobody
shall be left to take anything. The coordinator's events say so. While the coordinator is down, everything
stays as it is.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from cachefs.core.names import WorkerId
from cachefs.core.pools import Pool, Provided, compare
from cachefs.errors import (
    CacheFSError,
    CapacityError,
    ConflictError,
    CoordinatorUnavailableError,
    NotKnownError,
)
from cachefs.ports import Runtime, Task
from cachefs.ports.providers import Provider
from cachefs.transport.api import Api

POLL_SECONDS = 1.0
CALL_SECONDS = 10.0
"""Longest that a call may take; a plan of a large drain takes seconds."""
GIVE_UP_SECONDS = 90.0
"""A drain fails by itself after 60 s without progress, and is begun once more."""
LINGER_SECONDS = 3.0
"""A worker that has left serves on for so long: readers look at the members every two seconds."""
CLOSE_SECONDS = 2.0

_log = logging.getLogger("cachefs.supervisor")


@dataclass(slots=True)
class _Leaving:
    """How far a worker is with its drain."""

    fewest: int | None = None
    """Blocks left, when it had come furthest."""
    moved_at: float = 0.0
    was_member: bool = False
    left_at: float | None = None
    """When it was no member any more, having been one."""


class Following:
    """Makes a provider follow the pools. Its thread is its own."""

    def __init__(
        self,
        runtime: Runtime,
        provider: Provider,
        open_api: Callable[[], Api],
        *,
        say: Callable[[str], None],
    ) -> None:
        """Prepare; :meth:`start` begins.

        Args:
            runtime: For its clock and a thread.
            provider: Starts and stops workers.
            open_api: Returns the coordinator's API, wherever it is now.
            say: Told what a person should know.
        """
        self._runtime = runtime
        self._provider = provider
        self._open_api = open_api
        self._say = say
        self._changed = runtime.condition()
        self._closed = False
        self._task: Task | None = None
        self._leaving: dict[WorkerId, _Leaving] = {}
        self._silent = False

    def start(self) -> None:
        """Begin to follow."""
        self._task = self._runtime.start("pools", self._run)

    def close(self) -> None:
        """End; a drain that runs goes on when somebody follows again."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._task is not None:
            self._task.join(CLOSE_SECONDS)

    def look(self) -> None:
        """Look at the pools once, and do what is missing.

        Raises:
            CoordinatorUnavailableError: It does not answer.
        """
        api = self._open_api()
        document = api.get("/v1/pools", timeout_seconds=CALL_SECONDS)
        pools = {each["name"]: pool_of(each) for each in document["pools"]}
        members = set()
        if any(one.leaving for one in self._provider.provided()):
            view = api.get("/v1/view", timeout_seconds=CALL_SECONDS)
            members = {WorkerId(each["worker"]) for each in view["members"]}
        for pool in pools.values():
            problem = self._follow(pool)
            self._report(api, pool, problem)
        for one in self._provider.provided():
            if one.leaving:
                pool = pools.get(one.pool, Pool(name=one.pool))
                self._lead_out(api, one, pool, is_member=one.worker in members)

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._closed:
                    self._changed.wait(POLL_SECONDS)
                if self._closed:
                    return
            try:
                self.look()
                self._silent = False
            except CacheFSError as error:
                if not self._silent:
                    _log.warning("pools cannot be followed", extra={"failure": str(error)})
                self._silent = True

    def _follow(self, pool: Pool) -> str:
        """Start who is missing and mark who shall leave; return why that cannot be done."""
        difference = compare(pool, self._provider.provided())
        for worker in difference.leave:
            self._provider.leave(worker)
            self._say(f"{worker} leaves")
        for zone in difference.start:
            try:
                worker = self._provider.start(pool.name, zone)
            except CapacityError as error:
                return str(error)
            self._say(f"starting {worker}")
        return ""

    def _report(self, api: Api, pool: Pool, problem: str) -> None:
        """Say who was named to leave and has, and what stands in the way."""
        here = {one.worker for one in self._provider.provided()}
        left = [worker for worker in pool.leaving if worker not in here]
        if left or problem != pool.problem:
            _post(api, f"/v1/pools/{pool.name}/report", {"left": left, "problem": problem})

    def _lead_out(self, api: Api, one: Provided, pool: Pool, *, is_member: bool) -> None:
        """Bring a worker that leaves one step further."""
        now = self._runtime.monotonic()
        known = self._leaving.setdefault(one.worker, _Leaving(moved_at=now))
        if not is_member:
            if not known.was_member and now - known.moved_at < GIVE_UP_SECONDS and pool.wanted:
                return  # it is starting, and may hold what nobody else does
            known.left_at = now if known.left_at is None else known.left_at
            if not known.was_member or now - known.left_at >= LINGER_SECONDS:
                self._stop(api, one, pool, "")
            return
        known.was_member = True
        try:
            answer = _post(api, f"/v1/members/{quote(one.worker, safe='')}/drain", {})
        except NotKnownError:
            return  # it has left since; the next look sees that
        except CoordinatorUnavailableError:
            raise
        except CacheFSError as error:
            nobody = isinstance(error, ConflictError) and not pool.wanted
            if nobody or now - known.moved_at >= GIVE_UP_SECONDS:
                self._stop(api, one, pool, "" if nobody else f"it could not hand over all: {error}")
            return
        if answer["done"] or known.fewest is None or answer["blocks"] < known.fewest:
            known.fewest, known.moved_at = answer["blocks"], now
        elif now - known.moved_at >= GIVE_UP_SECONDS:
            self._stop(api, one, pool, f"it still held {answer['blocks']} blocks that others lack")

    def _stop(self, api: Api, one: Provided, pool: Pool, why: str) -> None:
        self._leaving.pop(one.worker, None)
        self._say(f"stopping {one.worker}" + (f": {why}" if why else ""))
        if why:
            told = {"problem": pool.problem, "stopped": {one.worker: why}}
            _post(api, f"/v1/pools/{pool.name}/report", told)
        self._provider.stop(one.worker)


def _post(api: Api, path: str, body: Mapping[str, Any]) -> Any:  # Any: JSON documents
    return api.post(path, dict(body), timeout_seconds=CALL_SECONDS)


def pool_of(document: Mapping[str, Any]) -> Pool:  # Any: a JSON document
    """Return a pool as it shall be, from the coordinator's document."""
    return Pool(
        name=document["name"],
        wanted=document["wanted"],
        wanted_by_zone=document["wanted_by_zone"],
        leaving=tuple(WorkerId(one) for one in document["leaving"]),
        problem=document["problem"],
    )
