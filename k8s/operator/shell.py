"""The shell: watches, by kopf, that put names on the desk. Nothing else is kopf's.

Its handlers for *events* are used, which keep nothing on objects: no annotation, no finalizer. What was missed
while a watch was away, the desk's sweep finds. kopf's own events, peering and observation of kinds are off, so that
it needs no right beyond listing and watching what keepers name.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import kopf

from cachefs.k8s.cluster import Cluster
from cachefs.k8s.names import GROUP, Kind
from cachefs.k8s.operator.desk import Desk
from cachefs.k8s.operator.keepers import Keeper

_WATCH_SECONDS = 300
"""A watch ends after so long, and begins again: one that a firewall has forgotten is noticed then."""
_CONNECT_SECONDS = 10.0
_EXIT_SECONDS = 30.0
_STOP_POLL_SECONDS = 0.2
# It warns that signals are not its own: they are the process's.
logging.getLogger("kopf._core.reactor.running").setLevel(logging.ERROR)


class Shell:
    """Watches until it is told to stop."""

    def __init__(self, cluster: Cluster, desk: Desk, keepers: Sequence[Keeper]) -> None:
        """Prepare to watch what the keepers want to see."""
        self._cluster = cluster
        self._desk = desk
        self._registry = kopf.OperatorRegistry()
        self._settings = _settings()
        kopf.on.login(registry=self._registry)(self._log_in)
        for keeper in keepers:
            for kind in keeper.watched:
                self._watch(keeper.name, kind)

    def run(self, stop: threading.Event) -> None:
        """Watch, in this thread, until ``stop`` is set."""
        asyncio.run(self._run(stop))

    async def _run(self, stop: threading.Event) -> None:
        flag = asyncio.Event()

        async def pass_on() -> None:
            # kopf would wait for the event in a thread, which then nobody ends.
            while not stop.is_set():  # noqa: ASYNC110 - another thread sets it
                await asyncio.sleep(_STOP_POLL_SECONDS)
            flag.set()

        passing = asyncio.create_task(pass_on())
        try:
            await kopf.operator(
                registry=self._registry,
                settings=self._settings,
                clusterwide=True,
                standalone=True,
                stop_flag=flag,
            )
        finally:
            passing.cancel()

    def _watch(self, keeper: str, kind: Kind) -> None:
        seen = _Seen(kind)

        async def changed(event: Mapping[str, Any], **_: Any) -> None:  # Any: as kopf calls it
            document = event["object"]
            if seen.is_news(str(event.get("type")), document):
                head = document["metadata"]
                self._desk.put(keeper, head.get("namespace", ""), head["name"])

        version = kind.api_version.rpartition("/")[2]
        register: Callable[[Any], Any] = kopf.on.event(
            kind.group,
            version,
            kind.plural,
            id=f"{keeper}-{kind.plural}",
            registry=self._registry,
        )
        register(changed)

    async def _log_in(self, **_: Any) -> kopf.ConnectionInfo:  # Any: as kopf calls it
        """Say who we are, anew whenever kopf's calls are refused or the token is a minute old."""
        identity = await asyncio.to_thread(self._cluster.identity)
        return kopf.ConnectionInfo(**identity)


class _Seen:
    """Which states of objects were seen: a status that we wrote ourselves is no news."""

    def __init__(self, kind: Kind) -> None:
        self._has_generation = kind.group == GROUP
        self._states: dict[str, tuple[object, object]] = {}

    def is_news(self, what: str, document: Mapping[str, Any]) -> bool:  # Any: an object
        if not self._has_generation:
            return True
        head = document["metadata"]
        uid = str(head.get("uid"))
        if what == "DELETED":
            self._states.pop(uid, None)
            return True
        state = (head.get("generation"), head.get("deletionTimestamp"))
        before, self._states[uid] = self._states.get(uid), state
        return state != before


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.peering.standalone = True
    settings.scanning.disabled = True
    settings.watching.server_timeout = _WATCH_SECONDS
    settings.watching.client_timeout = _WATCH_SECONDS + 30
    settings.watching.connect_timeout = _CONNECT_SECONDS
    settings.networking.connect_timeout = _CONNECT_SECONDS
    settings.networking.request_timeout = 30
    settings.process.ultimate_exiting_timeout = _EXIT_SECONDS
    return settings
