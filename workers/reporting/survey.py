"""The survey: what this machine is, looked at now and then, and at hand at any time.

It runs in a thread of its own. A management library whose driver is in trouble may not answer for minutes;
then the last survey stands, and renewals go on without a newer one.
"""

import logging
import socket
from collections.abc import Callable, Mapping
from dataclasses import replace

from cachefs.config.schema import WorkerConfig
from cachefs.core.hints.nodes import Gpu
from cachefs.errors import ConfigError
from cachefs.ports import Closing, Runtime, Task
from cachefs.wire.nodereports import NodeReport
from cachefs.workers.reporting import machine
from cachefs.workers.reporting.accelerators import Accelerators, open_accelerators

LOOK_SECONDS = 1.0
"""How often accelerators and memory are looked at."""
_CLOSE_SECONDS = 1.0

_log = logging.getLogger("cachefs.worker")


class Survey(Closing):
    """Looks at the machine. Safe from any thread."""

    def __init__(
        self,
        runtime: Runtime,
        config: WorkerConfig,
        *,
        open_library: Callable[[], Accelerators | None] = open_accelerators,
    ) -> None:
        """Find out what does not change; :meth:`start` begins to look at the rest.

        Raises:
            ConfigError: A configured label is not ``key=value``.
        """
        self._runtime = runtime
        self._open_library = open_library
        self._ending = runtime.condition()
        self._ended = False
        self._task: Task | None = None
        self._gpus: tuple[Gpu, ...] = ()
        card = machine.find_card(config.host)
        memory = next((tier.folder for tier in config.tiers if tier.medium == "memory"), None)
        self._lasting = NodeReport(
            name=config.node_name or socket.gethostname(),
            rack=config.rack,
            region=config.region,
            labels=parse_labels(config.labels),
            cpus=machine.processors(),
            numa_nodes=machine.numa_nodes(),
            nic_bytes_rate=config.link_bytes_rate or (card.bytes_rate if card else 0.0),
            disk_bytes_rate=config.disk_bytes_rate,
            memory_numa=machine.memory_numa(memory) if memory else None,
        )
        self._report = self._with_memory()

    @property
    def report(self) -> NodeReport:
        """What was seen last."""
        return self._report

    def start(self) -> None:
        """Begin to look."""
        self._task = self._runtime.start("survey", self._run)

    def close(self) -> None:
        """End the looking; a driver that does not answer is left alone."""
        with self._ending:
            self._ended = True
            self._ending.notify_all()
        if self._task is not None:
            self._task.join(_CLOSE_SECONDS)

    def _run(self) -> None:
        library = self._open_library()
        try:
            while not self._ended:
                if library is not None:
                    self._gpus = library.look()
                self._report = self._with_memory()
                with self._ending:
                    if not self._ended:
                        self._ending.wait(LOOK_SECONDS)
        except Exception:  # noqa: BLE001 - the boundary of a thread that nobody waits for
            _log.exception("the machine is looked at no longer")
        finally:
            if library is not None:
                library.close()

    def _with_memory(self) -> NodeReport:
        total, free = machine.memory_bytes()
        return replace(self._lasting, memory_bytes=total, memory_free_bytes=free, gpus=self._gpus)


def parse_labels(texts: tuple[str, ...]) -> Mapping[str, str]:
    """Return labels that are written ``key=value``.

    Raises:
        ConfigError: One is not.
    """
    labels = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"not a label: {text!r}", hint="worker.labels: key=value")
        labels[key.strip()] = value.strip()
    return labels
