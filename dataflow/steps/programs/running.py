"""The interface of steps to wherever their programs run: rooms of this machine, or an executor's cluster.

A program belongs to an attempt of a step, and is begun once however often that is said, by whichever
coordinator. Its end is kept. The contract suite is ``tests/contract/test_programs.py``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from cachefs.dataflow.ports import StepContext
from cachefs.dataflow.spec.arguments import MountOf, Process, Resources
from cachefs.dataflow.steps.programs.rooms import Found


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a step wants to be run."""

    command: tuple[str, ...]
    """The program and its arguments; there is no shell."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Of its environment."""
    secrets: Mapping[str, str] = field(default_factory=dict)
    """Variables whose values are found where it runs: ``env:NAME``, ``file:/PATH``, ``secret:NAME/KEY``."""
    workdir: str = ""
    """The folder that it runs in; empty for one of its own."""
    mounts: tuple[MountOf, ...] = ()
    """Datasets that it finds as folders; paths that are not absolute are below the folder it runs in."""
    image: str = ""
    """What it runs in, where programs have images."""
    resources: Resources = field(default_factory=Resources)
    queue: str = ""

    @classmethod
    def of(cls, process: Process, command: tuple[str, ...]) -> "Wanted":
        """Return what a ``process`` step wants: its command, or the one that undoes it."""
        return cls(
            command=command,
            variables=process.env,
            secrets=process.secrets,
            workdir=process.workdir,
            mounts=process.mounts,
            image=process.image,
            resources=process.resources,
            queue=process.queue,
        )


class Programs(Protocol):
    """Runs the programs of steps. Safe from any thread.

    ``part`` tells the programs of one attempt apart; most have one, whose part is empty.
    """

    tethered: bool
    """Whether they end with this process: then an attempt that is abandoned ends its own."""

    def begin(self, context: StepContext, wanted: Wanted, *, part: str = "") -> None:
        """Start a program unless that was done; the programs of earlier attempts end first.

        Returns soon: it may take its time until it runs.

        Raises:
            ConfigError: It cannot be run here as it is wanted.
            ClusterError: No program can be started now.
        """
        ...

    def look(self, context: StepContext, *, part: str = "") -> Found:
        """Say how a program stands; ``none`` if it was never begun.

        Raises:
            StepTransientError: Nobody can tell any more; it has been told to end.
        """
        ...

    def stop(self, context: StepContext, *, part: str = "") -> None:
        """End a program with all that it has started; returns within two seconds.

        One that has not begun to run never will. Where it takes longer until it is gone, no other program
        of the step begins before that.
        """
        ...

    def tail(self, context: StepContext, size: int, *, part: str = "") -> str:
        """Return the end of what a program wrote, at most so many bytes, as far as it is kept."""
        ...

    def outputs(self, context: StepContext, *, part: str = "") -> bytes:
        """Return what a program wrote for the steps after it (``CACHEFS_OUTPUTS``); empty for nothing.

        Raises:
            CapacityError: It is too much.
        """
        ...
