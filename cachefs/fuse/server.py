"""The server: the process that answers a mount's requests, put together and ended in order.

It loads its code, finds the system, says that it is prepared, and waits until its keeper tells it to
serve. Only then does it look into the memory: until then another process may still write there. So
what a reader waits for, when one server takes over from another, is the rest: numbers from the
memory, manifests from the run folder, and the engine.

A system that is down does not keep a server from serving what it can: addresses and settings are in
the plan, manifests in the run folder, blocks with the workers.
"""

import logging
import os
import signal
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from typing import Protocol

from cachefs.client.connecting import connect
from cachefs.client.reader import Reader
from cachefs.config.discovery import Endpoint, discover
from cachefs.config.schema import ClusterConfig, MountPlan
from cachefs.config.secrets import read_token
from cachefs.core.names import DatasetName
from cachefs.errors import CacheFSError
from cachefs.fuse.engines.choice import NATIVE
from cachefs.fuse.engines.underway import Underway
from cachefs.fuse.keeping.heartbeat import Heartbeat
from cachefs.fuse.keeping.holding import options_of
from cachefs.fuse.keeping.keptmemory import KeptMemory
from cachefs.fuse.keeping.servers import Control
from cachefs.fuse.mounts.runfolder import RunFolder
from cachefs.fuse.mounts.table import find_mount
from cachefs.fuse.showing.alldatasets import AllDatasets
from cachefs.fuse.showing.catalogue import HttpCatalogue
from cachefs.fuse.showing.memory import Memory, VersionFolder, VolatileMemory
from cachefs.fuse.showing.namespace import Namespace
from cachefs.fuse.showing.onedataset import OneDataset
from cachefs.fuse.showing.operations import Operations
from cachefs.fuse.showing.xattrs import ExtendedAttributes
from cachefs.ports import Runtime, Task
from cachefs.transport.api import Api
from cachefs.transport.node import node_identity

BEAT_SECONDS = 0.25
_STUCK_DEADLINES = 3
"""A request that has been served for so many deadlines of a read will not end. Most end at one; a
look-up may resolve a version and then list its origin."""
_JOIN_SECONDS = 2.0
_STOPPING = {signal.SIGTERM, signal.SIGINT}

_log = logging.getLogger("cachefs.fuse.server")


class Engine(Protocol):
    """What speaks with the kernel."""

    @property
    def underway(self) -> Underway:
        """What it is serving."""
        ...

    def serve(self) -> None:
        """Answer requests until the mount is gone, or :meth:`close` is called."""
        ...

    def close(self) -> None:
        """Take no more requests, finish those at hand within a bound, and let ``serve`` return."""
        ...


class Pulse:
    """The thread that beats the heart, as long as requests end that begin.

    A process that does nothing any more shows no sign of life. Nor does one of which a thread is
    stuck in a request: everything that a request may wait for has a deadline.
    """

    def __init__(self, runtime: Runtime, heartbeat: Heartbeat, *, stuck_seconds: float) -> None:
        """Begin; a request that takes ``stuck_seconds`` will not end."""
        self._runtime = runtime
        self._heartbeat = heartbeat
        self._stuck_seconds = stuck_seconds
        self._underway: Underway | None = None
        self._guard = runtime.condition()
        self._closed = False
        self._task: Task = runtime.start("heartbeat", self._run)

    def _run(self) -> None:
        with self._guard:
            while not self._closed:
                if self._underway is None or self._underway.longest_seconds() < self._stuck_seconds:
                    self._heartbeat.beat(self._runtime.monotonic())
                self._guard.wait(BEAT_SECONDS)

    def watch(self, underway: Underway) -> None:
        """Look at these requests from now on."""
        self._underway = underway

    def close(self) -> None:
        """End; idempotent."""
        with self._guard:
            self._closed = True
            self._guard.notify_all()
        self._task.join(_JOIN_SECONDS)


class Leaving:
    """The thread that waits for SIGTERM and SIGINT, and then closes the engine.

    The signals are blocked in all threads and taken here, so that no system call of another thread
    is interrupted, and a busy main thread does not keep us waiting.
    """

    def __init__(self, runtime: Runtime, engine: Engine) -> None:
        """Begin; the signals must be blocked already."""
        self._engine = engine
        self._closed = False
        self._task: Task = runtime.start("leaving", self._run)

    def _run(self) -> None:
        while not self._closed:
            taken = signal.sigtimedwait(_STOPPING, BEAT_SECONDS)
            # A process that was stopped and goes on gets an empty one here.
            if taken is not None and taken.si_signo in _STOPPING:
                _log.debug("leaving: told to end")
                return self._engine.close()
        return None

    def close(self) -> None:
        """End; idempotent."""
        self._closed = True
        self._task.join(_JOIN_SECONDS)


def run(
    runtime: Runtime,
    folder: RunFolder,
    plan: MountPlan,
    cluster: ClusterConfig,
    *,
    control: Control,
    heartbeat: Heartbeat,
) -> None:
    """Serve a mount until it is gone or we are told to leave.

    Raises:
        CacheFSError: It did not come to that.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
    keeper = os.getppid()
    with ExitStack() as owned:
        stuck_seconds = _STUCK_DEADLINES * plan.reader.deadline_seconds
        pulse = Pulse(runtime, heartbeat, stuck_seconds=stuck_seconds)
        owned.enter_context(closing(pulse))
        endpoint = _endpoint(plan, cluster)
        reader = owned.enter_context(connect(endpoint, plan.reader, runtime))
        control.tell("prepared")
        descriptors = control.wait_until_told()
        memory: Memory = KeptMemory(runtime, descriptors[1]) if descriptors else VolatileMemory()
        operations = _operations(reader, endpoint, folder, plan, memory)
        owned.enter_context(closing(operations))

        def on_ready() -> None:
            control.tell("ready")
            _log.debug("serving", extra={"mountpoint": plan.mountpoint, "engine": plan.engine})

        engine = _engine(
            runtime, operations, plan, memory, descriptors=descriptors, on_ready=on_ready
        )
        pulse.watch(engine.underway)
        owned.enter_context(closing(Leaving(runtime, engine)))
        engine.serve()
    if os.getppid() != keeper and find_mount(plan.mountpoint) is None:
        folder.remove()  # Its keeper would have.


def _endpoint(plan: MountPlan, cluster: ClusterConfig) -> Endpoint:
    if plan.state_folder is not None:
        with suppress(CacheFSError):
            return discover({}, state=plan.state_folder)
    token = read_token(plan.token_file)
    return Endpoint(plan.coordinator, token, plan.workers, cluster, plan.state_folder)


def _operations(
    reader: Reader, endpoint: Endpoint, folder: RunFolder, plan: MountPlan, memory: Memory
) -> Operations:
    api = Api(endpoint.coordinator, endpoint.token)
    catalogue = HttpCatalogue(reader.runtime, api, reader.metadata, node=node_identity())
    options, versions = options_of(plan), VersionFolder(folder.versions)
    namespace: Namespace
    if plan.dataset:
        namespace = OneDataset(
            reader,
            DatasetName.parse(plan.dataset),
            plan.version or None,
            options,
            memory=memory,
            versions=versions,
        )
    else:
        namespace = AllDatasets(reader, catalogue, options, memory=memory, versions=versions)
    return Operations(reader.runtime, namespace, ExtendedAttributes(reader, namespace, catalogue))


def _engine(
    runtime: Runtime,
    operations: Operations,
    plan: MountPlan,
    memory: Memory,
    *,
    descriptors: list[int],
    on_ready: Callable[[], None],
) -> Engine:
    options = options_of(plan)
    if plan.engine == NATIVE:
        from cachefs.fuse.engines.native.engine import NativeEngine  # noqa: PLC0415 - one of two

        return NativeEngine(descriptors[0], operations, memory, options, runtime, on_ready=on_ready)
    from cachefs.fuse.engines.libfuse import LibfuseEngine  # noqa: PLC0415 - the library may be missing

    return LibfuseEngine(
        operations, plan.mountpoint, plan.source, options, runtime, on_ready=on_ready
    )
