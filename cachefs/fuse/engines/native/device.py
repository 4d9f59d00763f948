"""What is asked of the system: mounting, the ioctls of ``/dev/fuse``, and its knobs in sysfs.

Who may mount does so by ``mount(2)``; anybody else through ``fusermount3``, which is setuid root, does
the mount, and sends the open device back over a socket whose number it finds in ``_FUSE_COMMFD``.

The device is switched to non-blocking, which belongs to the open device itself: whichever process
serves it waits in ``epoll``, so that it can be told to stop.
"""

import ctypes
import fcntl
import os
import shutil
import socket
import struct
import subprocess
from pathlib import Path

from cachefs.errors import CacheFSError, ConfigError, DeniedError
from cachefs.fuse.engines.native import protocol
from cachefs.fuse.mounts.table import FILE_SYSTEM
from cachefs.fuse.showing.attributes import MountOptions

DEVICE = "/dev/fuse"
FUSERMOUNT_SECONDS = 10.0
"""It only makes a system call; one that takes longer hangs on the mount point."""

_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 1, 2, 4, 8
"""``linux/mount.h``"""
_CAP_SYS_ADMIN = 21
_LIBC = ctypes.CDLL(None, use_errno=True)


def mount(mountpoint: str | Path, source: str, options: MountOptions) -> int:
    """Mount and return the open device, which the caller closes and then it is over.

    Nothing that looks into the mount returns before somebody serves the device.

    Args:
        mountpoint: An existing folder.
        source: What the mount table shows, such as ``cachefs://name``.
        options: Of them ``allow_other``.

    Raises:
        ConfigError: There is no ``/dev/fuse``, no ``fusermount3``, or no such folder.
        DeniedError: The system does not let us.
    """
    folder = os.path.realpath(mountpoint)
    if not Path(folder).is_dir():
        raise ConfigError("not a folder", subject=str(mountpoint))
    if may_mount():
        return _mount_directly(folder, source, options)
    return _mount_by_fusermount(folder, source, options)


def may_mount() -> bool:
    """Say whether this process may mount by itself, and pass files through."""
    status = Path("/proc/self/status").read_text()
    effective = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(effective.split()[1], 16) >> _CAP_SYS_ADMIN & 1)


def _mount_directly(folder: str, source: str, options: MountOptions) -> int:
    try:
        device = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise _no_device(error) from error
    words = [f"fd={device}", "rootmode=40000", f"user_id={os.getuid()}", f"group_id={os.getgid()}"]
    words += ["default_permissions", *(["allow_other"] if options.allow_other else [])]
    flags = _MS_RDONLY | _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
    done = _LIBC.mount(
        os.fsencode(source),
        os.fsencode(folder),
        FILE_SYSTEM.encode(),
        ctypes.c_ulong(flags),
        ",".join(words).encode(),
    )
    if done != 0:
        number = ctypes.get_errno()
        os.close(device)
        raise DeniedError("cannot mount", subject=folder, hint=os.strerror(number))
    return device


def _mount_by_fusermount(folder: str, source: str, options: MountOptions) -> int:
    program = shutil.which("fusermount3")
    if program is None:
        raise ConfigError("only root can mount without fusermount3", hint="install fuse3")
    name = source.replace("\\", "\\\\").replace(",", "\\,")
    words = ["ro", "nosuid", "nodev", "noexec", "default_permissions"]
    words += [
        f"fsname={name}",
        "subtype=cachefs",
        *(["allow_other"] if options.allow_other else []),
    ]
    ours, theirs = socket.socketpair()
    with ours, theirs:
        environment = {**os.environ, "_FUSE_COMMFD": str(theirs.fileno())}
        try:
            ended = subprocess.run(  # noqa: S603 - a list of arguments, none of them a program
                [program, "-o", ",".join(words), "--", folder],
                env=environment,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=FUSERMOUNT_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise DeniedError("fusermount3 failed", subject=folder, hint=str(error)) from error
        if ended.returncode != 0:
            said = ended.stderr.decode(errors="replace").strip()
            raise DeniedError("cannot mount", subject=folder, hint=said)
        ours.settimeout(FUSERMOUNT_SECONDS)
        _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
    if not descriptors:
        raise DeniedError("fusermount3 sent no descriptor", subject=folder)
    os.set_inheritable(descriptors[0], False)
    os.set_blocking(descriptors[0], False)
    return descriptors[0]


def _no_device(error: OSError) -> CacheFSError:
    if isinstance(error, PermissionError):
        return DeniedError(
            "may not be opened", subject=DEVICE, hint="in a container, add the device"
        )
    return ConfigError(
        "cannot be opened", subject=DEVICE, hint=f"{error.strerror}; load module fuse"
    )


def open_backing(device: int, descriptor: int) -> int:
    """Have the kernel remember an open file for passing reads through; return its id.

    Raises:
        OSError: ``EPERM``: not privileged, or not negotiated; ``ELOOP``: the file is on a stacked
            file system; ``EOPNOTSUPP``, ``EINVAL``: not a file that can be passed through.
    """
    asked = bytearray(protocol.BACKING_MAP.pack(descriptor, 0, 0))
    backing: int = fcntl.ioctl(device, protocol.DEV_IOC_BACKING_OPEN, asked, True)
    return backing


def close_backing(device: int, backing: int) -> None:
    """Have the kernel forget an id; who has the file open keeps it.

    Raises:
        OSError: ``ENOENT``: there is no such id.
    """
    asked = bytearray(struct.pack("=I", backing))
    fcntl.ioctl(device, protocol.DEV_IOC_BACKING_CLOSE, asked, True)


def connection_of(device: int) -> int | None:
    """Return the number of the connection that a device serves; ``None`` if the kernel hides it."""
    for line in Path(f"/proc/self/fdinfo/{device}").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "fuse_connection":
            return int(value)
    return None


def set_read_ahead(connection: int, size: int) -> bool:
    """Set how far the kernel reads ahead in a mount's files; ``False`` if only root may.

    It has effect once INIT is answered, which sets it to the kernel's default.
    """
    try:
        knob = Path(f"/sys/class/bdi/0:{connection}/read_ahead_kb")
        knob.write_text(str(size // 1024))
    except OSError:
        return False
    return True
