"""What a worker's pod does before it ends: ``python -m cachefs.k8s.leaving``, its preStop hook.

Kubernetes ends a pod for many reasons, and says none. Most pods come back under their name, with their
volume: such a worker ends at once, for nothing is lost. One that shall not come back hands over first what only it
holds. Which of the two it is, the pool's wish says: the pod of a stateful set that is numbered beyond what its
zone shall have is one too many.

The hook is bounded by the pool's drain time, and the pod's grace period is longer than that. A coordinator
that is away is waited for, as long as there is time; whoever cannot ask at the beginning ends at once.
"""

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cachefs.config.secrets import read_token
from cachefs.errors import CacheFSError, ConfigError, ConflictError, NotKnownError
from cachefs.k8s.names import worker_name
from cachefs.ports import Runtime
from cachefs.transport.api import Api
from cachefs.transport.runtime import ThreadRuntime

ASK_SECONDS = 10.0
"""How long a coordinator may be away before the hook gives up asking whether anything is to be done."""
CALL_SECONDS = 10.0
POLL_SECONDS = 0.5
STALL_SECONDS = 90.0
"""A drain that comes no further for so long is given up, as the supervisor of ``cachefs up`` does."""
LINGER_SECONDS = 3.0
"""A worker that has left serves on for so long: readers look at the members every two seconds."""
_ORDINAL = re.compile(r".*-(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaver:
    """Who is about to end."""

    worker: str
    pool: str
    zone: str = ""
    numbered: bool = True
    """Whether it is of a stateful set: one of a daemon set is never one too many."""


def is_one_too_many(pool: Mapping[str, Any], leaver: Leaver) -> bool:  # Any: a JSON document
    """Say whether a worker shall not come back, by what the coordinator says of its pool."""
    if leaver.worker in pool["leaving"]:
        return True
    match = _ORDINAL.fullmatch(leaver.worker)
    if pool["wanted"] is None or match is None or not leaver.numbered:
        return False
    by_zone = pool["wanted_by_zone"]
    # A zone that the wish does not name shall have none. The operator completes it before it changes a set.
    count = by_zone.get(leaver.zone, 0) if leaver.zone else pool["wanted"]
    return int(match[1]) >= int(count)


class Leaving:
    """One worker's end."""

    def __init__(self, runtime: Runtime, api: Api, leaver: Leaver, *, drain_seconds: float) -> None:
        """Prepare; ``drain_seconds`` is how long all of it may take."""
        self._runtime = runtime
        self._api = api
        self._leaver = leaver
        self._ends_at = runtime.monotonic() + drain_seconds

    def run(self) -> str:
        """Hand over if that is to be done; return what became of it, in a phrase."""
        pool = self._pool()
        if pool is None:
            return "the coordinator does not say whether it is one too many: it ends as it is"
        if not is_one_too_many(pool, self._leaver):
            return "it comes back: nothing is handed over"
        why = self._drain(is_last=not pool["wanted"])
        if why:
            self._report(pool, why)
            return why
        left = self._ends_at - self._runtime.monotonic()
        self._runtime.sleep(min(LINGER_SECONDS, max(0.0, left)))
        return "it has handed over all it held"

    def _pool(self) -> Any:  # Any: a JSON document, or None
        deadline = min(self._ends_at, self._runtime.monotonic() + ASK_SECONDS)
        path = f"/v1/pools/{quote(self._leaver.pool, safe='')}"
        while True:
            try:
                return self._api.get(path, timeout_seconds=CALL_SECONDS)
            except CacheFSError:
                if self._runtime.monotonic() >= deadline:
                    return None
                self._runtime.sleep(POLL_SECONDS)

    def _drain(self, *, is_last: bool) -> str:
        """Hand over; return why not all of it could be, or nothing."""
        path = f"/v1/members/{quote(self._leaver.worker, safe='')}/drain"
        fewest: int | None = None
        moved_at = self._runtime.monotonic()
        problem = "the time is over"
        while (now := self._runtime.monotonic()) < self._ends_at:
            try:
                answer = self._api.post(path, {}, timeout_seconds=CALL_SECONDS)
                if answer["done"]:
                    return ""
                problem = f"it still held {answer['blocks']} blocks that others lack"
                if fewest is None or answer["blocks"] < fewest:
                    fewest, moved_at = answer["blocks"], now
            except NotKnownError:
                return ""  # no member any more: it has left
            except CacheFSError as error:
                if isinstance(error, ConflictError) and is_last:
                    return ""  # nobody shall be left to take anything
                problem = f"it could not hand over all: {error}"
            if now - moved_at >= STALL_SECONDS:
                break
            self._runtime.sleep(POLL_SECONDS)
        return problem

    def _report(self, pool: Mapping[str, Any], why: str) -> None:  # Any: a JSON document
        body = {"left": [], "problem": pool["problem"], "stopped": {self._leaver.worker: why}}
        path = f"/v1/pools/{quote(self._leaver.pool, safe='')}/report"
        try:
            self._api.post(path, body, timeout_seconds=CALL_SECONDS)
        except CacheFSError:
            return  # the log of the pod has it


def prepare(environment: Mapping[str, str]) -> Leaving:
    """Return the end of the worker whose environment this is.

    Raises:
        ConfigError: Something is missing, or makes no sense.
    """
    try:
        leaver = Leaver(
            worker=worker_name(environment),
            pool=environment["POOL"],
            zone=environment.get("ZONE", ""),
            numbered="WORKER_NAME" not in environment,
        )
        token = read_token(Path(environment["CACHEFS_TOKEN_FILE"]))
        api = Api(environment["CACHEFS_COORDINATOR"], token)
        return Leaving(
            ThreadRuntime(), api, leaver, drain_seconds=float(environment["DRAIN_SECONDS"])
        )
    except KeyError as error:
        raise ConfigError("the environment lacks a value", subject=str(error.args[0])) from error


if __name__ == "__main__":
    try:
        told = prepare(os.environ).run()
    except (CacheFSError, ValueError) as failure:
        sys.exit(f"{failure}")
    sys.stdout.write(f"{told}\n")
