"""What all tests share: options, mounts that no other process of the tests sees, and Ctrl-C."""

import ctypes
import os
import signal

_CLONE_NEWNS = 0x20000  # <linux/sched.h>
_MS_REC_PRIVATE = 0x4000 | 1 << 18  # <linux/mount.h>


def pytest_configure():
    """Leave the machine's mount table, where we may, and let Ctrl-C end what is started here.

    Tests kill the processes of their mounts, and ask doctor about every mount that it sees: those of
    a test that runs beside them must not be among these. And nothing outlives the last process here.

    A shell has what it starts in the background ignore Ctrl-C, and whatever that starts does, too.
    """
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(_CLONE_NEWNS) == 0:
            libc.mount(b"none", b"/", None, _MS_REC_PRIVATE, None)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser):
    group = parser.getgroup("simulation")
    group.addoption("--seed", type=int, default=None, help="run this one seed of the simulation")
    group.addoption("--seeds", type=int, default=2048, help="how many seeds the simulation runs")
    group.addoption("--first-seed", type=int, default=0, help="which seed it begins with")
    mounts = parser.getgroup("mounts")
    mounts.addoption(
        "--kills", type=int, default=20, help="how often a mount's process is killed under load"
    )
