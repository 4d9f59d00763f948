"""What a volume may be used as: a file system, read-only. Whoever says that it would write gets it read-only."""

from collections.abc import Iterable

from cachefs.core.names import printable
from cachefs.errors import ConfigError
from cachefs.k8s.csi.proto import csi_pb2 as csi

_MODE = csi.VolumeCapability.AccessMode
READERS = frozenset({_MODE.SINGLE_NODE_READER_ONLY, _MODE.MULTI_NODE_READER_ONLY})
"""Confirmed when somebody asks. Others are taken, because the kubelet has no other for an inline volume."""
_FLAGS = frozenset({"ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime", "relatime"})
"""Mount options that are so anyway, or change nothing."""


def check(capability: csi.VolumeCapability) -> None:
    """Refuse a use that cannot be.

    Raises:
        ConfigError: It cannot.
    """
    kind = capability.WhichOneof("access_type")
    if kind is None:
        raise ConfigError("the capability does not say how the volume is used")
    if kind == "block":
        raise ConfigError("a dataset is no block device", hint="volumeMode: Filesystem")
    mode = capability.access_mode.mode
    if mode == _MODE.UNKNOWN or mode not in _MODE.Mode.values():
        raise ConfigError("the capability has no access mode")
    wrong = [flag for flag in capability.mount.mount_flags if flag not in _FLAGS]
    if wrong:
        raise ConfigError("no such mount option", subject=printable(wrong[0]))


def check_all(capabilities: Iterable[csi.VolumeCapability]) -> None:
    """Refuse uses of which one cannot be, or none at all.

    Raises:
        ConfigError: So it is.
    """
    listed = list(capabilities)
    if not listed:
        raise ConfigError("the call lacks capabilities")
    for each in listed:
        check(each)
