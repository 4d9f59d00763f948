"""Which engine serves a mount, and why: by kernel, privileges, and what is installed."""

import errno
import importlib.util
import os
import platform
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cachefs.errors import ConfigError

NATIVE = "native"
LIBFUSE = "libfuse"
AUTO = "auto"
DEVICE = Path("/dev/fuse")
NATIVE_KERNEL = (5, 4)
"""The first with version 7.31 of the kernel's protocol, the oldest that the native engine speaks."""
RECOVERY_KERNEL = (6, 9)
"""The first that sends requests again which a dead process took with it (FUSE_NOTIFY_RESEND)."""
PASSTHROUGH_KERNEL = (6, 9)
"""The first that reads a file which is whole on this node by itself (FUSE_PASSTHROUGH)."""
_ADMIN = 21
"""CAP_SYS_ADMIN's bit."""
_FUSE_CONFIGURATION = Path("/etc/fuse.conf")


@dataclass(frozen=True, slots=True)
class Machine:
    """What this machine and this process can do for a mount."""

    kernel: tuple[int, int]
    device: str
    """Why ``/dev/fuse`` cannot be opened; empty if it can."""
    privileged: bool
    """CAP_SYS_ADMIN: mounting without help, passthrough, readahead."""
    fusermount: bool
    """Whether ``fusermount3`` is there, which mounts for ordinary users."""
    library: bool
    """Whether mfusepy is installed."""
    others_allowed: bool
    """Whether this user may let other users into a mount."""

    @property
    def passthrough(self) -> bool:
        """Whether the kernel reads files that are whole on this node by itself."""
        return self.privileged and self.kernel >= PASSTHROUGH_KERNEL


@dataclass(frozen=True, slots=True)
class Choice:
    """An engine, and why it is that one."""

    engine: str
    reason: str
    recovery: bool
    """Whether a mount with it can survive the process that serves it."""
    recovery_reason: str = ""
    """Why not."""


def look_around() -> Machine:
    """Look at this machine; changes nothing."""
    return Machine(
        kernel=_kernel(platform.release()),
        device=_device(),
        privileged=_privileged(),
        fusermount=shutil.which("fusermount3") is not None,
        library=importlib.util.find_spec("mfusepy") is not None,
        others_allowed=os.geteuid() == 0 or _others_allowed(),
    )


def choose(wanted: str, machine: Machine, *, follow_current: bool = False) -> Choice:
    """Return the engine to use.

    Args:
        wanted: ``auto``, ``native`` or ``libfuse``.
        machine: What there is to choose from.
        follow_current: The mount shall follow the current versions of datasets.

    Raises:
        ConfigError: Nothing works here, or not what was wanted; says why.
    """
    if wanted not in (AUTO, NATIVE, LIBFUSE):
        raise ConfigError(f"not an engine: {wanted!r}", hint=f"one of {AUTO}, {NATIVE}, {LIBFUSE}")
    faults = {NATIVE: list(_against_native(machine)), LIBFUSE: list(_against_libfuse(machine))}
    if follow_current:
        # One path has one page cache there, in which two versions would be mixed.
        fault = ("the libfuse engine cannot follow current versions", "use `--engine native`")
        faults[LIBFUSE].append(fault)
    for engine in (NATIVE, LIBFUSE) if wanted == AUTO else (wanted,):
        if not faults[engine]:
            return _choice(engine, wanted, machine, faults[NATIVE])
    fault = faults[NATIVE if wanted == AUTO else wanted][0]
    raise ConfigError(f"cannot mount here: {fault[0]}", hint=fault[1])


def _choice(engine: str, wanted: str, machine: Machine, against: list[tuple[str, str]]) -> Choice:
    asked = "" if wanted == AUTO else "as asked; "
    if engine == LIBFUSE:
        why = against[0][0] if against else "it works on every kernel"
        return Choice(engine, asked + why, recovery=False, recovery_reason="libfuse cannot resume")
    kernel = ".".join(map(str, machine.kernel))
    if machine.passthrough:
        why = f"Linux {kernel} reads files that are whole on this node by itself (passthrough)"
    elif machine.kernel < PASSTHROUGH_KERNEL:
        why = f"Linux {kernel} has what it needs; passthrough came with 6.9"
    else:
        why = f"Linux {kernel} has what it needs; passthrough needs root"
    recovers = machine.kernel >= RECOVERY_KERNEL
    return Choice(
        engine,
        asked + why,
        recovery=recovers,
        recovery_reason="" if recovers else "recovery needs Linux 6.9",
    )


def _against_both(machine: Machine) -> Iterator[tuple[str, str]]:
    if machine.device:
        yield (
            f"{DEVICE}: {machine.device}",
            ("load the kernel module (modprobe fuse), and in a container hand the device in"),
        )
    if not (machine.privileged or machine.fusermount):
        yield "only root may mount", "install the package fuse3: its fusermount3 does it for others"


def _against_native(machine: Machine) -> Iterator[tuple[str, str]]:
    yield from _against_both(machine)
    if machine.kernel < NATIVE_KERNEL:
        yield (
            f"Linux {'.'.join(map(str, machine.kernel))} is too old for the native engine",
            "use Linux 5.4 or newer, or `--engine libfuse`",
        )


def _against_libfuse(machine: Machine) -> Iterator[tuple[str, str]]:
    yield from _against_both(machine)
    if not machine.library:
        yield "mfusepy is not installed", "pip install 'cachefs-ai[fuse]'"


def _kernel(release: str) -> tuple[int, int]:
    found = re.match(r"(\d+)\.(\d+)", release)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _device() -> str:
    try:
        # Opening is the only true test: a container's device rules do not show in its mode. And
        # fusermount3 opens it with the rights of its caller.
        os.close(os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return error.strerror or errno.errorcode.get(error.errno or 0, "cannot be opened")
    return ""


def _privileged() -> bool:
    with suppress(OSError, ValueError, IndexError):
        status = Path("/proc/self/status").read_text()
        effective = int(status.partition("CapEff:")[2].split()[0], 16)
        return bool(effective >> _ADMIN & 1)
    return False


def _others_allowed() -> bool:
    with suppress(OSError):
        lines = _FUSE_CONFIGURATION.read_text(errors="replace").splitlines()
        return any(line.split("#")[0].strip() == "user_allow_other" for line in lines)
    return False
