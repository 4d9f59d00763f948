"""Network namespaces: several machines on one, with links of a known speed.

Each machine is a namespace with one virtual Ethernet cable into a bridge. ``tbf`` shapes both ends of
the cable, so that what a machine sends and what it receives each have the link's speed. The bridge
has an address of its own, and what runs outside of the namespaces is on the bridge, unlimited: the
coordinator and the reader.
"""

import os
import shutil
import socket
import subprocess
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from cachefs.errors import CacheFSError

_NETWORK = "10.213.77"
_BRIDGE = "cachefs-bench"
_PREFIX = "cfb-"
_CLAIM = "\0cachefs-bench"
"""An abstract address: whoever has it has the network, and the kernel takes it back at the end."""
_BURST = "256kb"
"""Holds several of the kernel's 64 KiB packets, or they would be cut or dropped."""
_LATENCY = "50ms"


@dataclass(frozen=True, slots=True)
class Machine:
    """One namespace."""

    name: str
    address: str

    @property
    def command_prefix(self) -> tuple[str, ...]:
        """What runs a command in it."""
        return ("ip", "netns", "exec", self.name)


class Network:
    """A bridge and the machines on it; all of it is removed at the end, also after a failure."""

    address = f"{_NETWORK}.1"
    """Of the bridge: of whatever runs outside of the namespaces."""

    def __init__(self) -> None:
        """Make nothing yet."""
        self.machines: list[Machine] = []

    def __enter__(self) -> Self:
        """Make the bridge; what an earlier run left behind is removed first.

        Raises:
            CacheFSError: Another benchmark has it.
        """
        self._claim = socket.socket(socket.AF_UNIX)
        try:
            self._claim.bind(_CLAIM)
        except OSError:
            self._claim.close()
            raise CacheFSError("another benchmark uses the network of namespaces") from None
        _remove()
        try:
            _run("ip", "link", "add", _BRIDGE, "type", "bridge")
            _run("ip", "address", "add", f"{self.address}/24", "dev", _BRIDGE)
            _run("ip", "link", "set", _BRIDGE, "up")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove everything."""
        try:
            _remove()
        finally:
            self._claim.close()

    def add(self, name: str, *, bits_rate: int) -> Machine:
        """Add a machine whose link has ``bits_rate`` in each direction."""
        machine = Machine(_PREFIX + name, f"{_NETWORK}.{len(self.machines) + 2}")
        outside, inside = machine.name, f"{machine.name}-i"
        self.machines.append(machine)
        _run("ip", "netns", "add", machine.name)
        _run("ip", "link", "add", outside, "type", "veth", "peer", "name", inside)
        _run("ip", "link", "set", inside, "netns", machine.name)
        _run("ip", "link", "set", outside, "master", _BRIDGE, "up")
        within = machine.command_prefix
        _run(*within, "ip", "address", "add", f"{machine.address}/24", "dev", inside)
        _run(*within, "ip", "link", "set", "lo", "up")
        _run(*within, "ip", "link", "set", inside, "up")
        for prefix, device in (((), outside), (within, inside)):
            _run(
                *(*prefix, "tc", "qdisc", "replace", "dev", device, "root", "tbf"),
                *("rate", f"{bits_rate}bit", "burst", _BURST, "latency", _LATENCY),
            )
        return machine


def why_not() -> str:
    """Return why namespaces cannot be had here, or nothing."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    missing = [program for program in ("ip", "tc") if shutil.which(program) is None]
    if missing:
        return f"{' and '.join(missing)} missing (apt-get install iproute2)"
    try:
        with Network() as network:
            network.add("probe", bits_rate=1_000_000_000)
    except CacheFSError as error:
        return str(error)
    return ""


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CacheFSError(f"`{' '.join(command)}` failed", hint=done.stderr.strip())


def _remove() -> None:
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=False)
    for line in listed.stdout.splitlines():
        name = line.split()[0] if line.split() else ""
        if name.startswith(_PREFIX):
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)
            subprocess.run(["ip", "link", "delete", name], capture_output=True, check=False)
    subprocess.run(["ip", "link", "delete", _BRIDGE], capture_output=True, check=False)
