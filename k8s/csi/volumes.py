"""What a volume is of: from the attributes that a pod or a persistent volume has, and who may have it.

The attributes of an inline volume are written by whoever makes the pod, but for those that begin with
``csi.storage.k8s.io/``, which the kubelet sets whatever a pod says. On one of these rests who may see what: a
pod uses datasets of its own namespace, and those that their owner shares with it.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from cachefs.core.names import (
    DEFAULT_NAMESPACE,
    DatasetName,
    parse_label,
    parse_name,
    parse_path,
    printable,
)
from cachefs.errors import ConfigError, DeniedError

DATASET, VERSION, FOLLOW, PATH, USE = "dataset", "version", "followCurrent", "path", "use"
POD_NAMESPACE = "csi.storage.k8s.io/pod.namespace"
"""Set by the kubelet, because our CSIDriver object asks for it."""
EPHEMERAL = "csi.storage.k8s.io/ephemeral"
"""Likewise: ``true`` for an inline volume."""
_SYSTEM_PREFIX = "csi.storage.k8s.io/"
_PROVISIONER = "storage.kubernetes.io/csiProvisionerIdentity"
"""Added by the usual provisioner to the volumes that it makes."""
SOCKETS = "sockets"
EVERYBODY = "*"
_INLINE_ID = re.compile(r"csi-[0-9a-f]{64}", re.ASCII)
"""What the kubelet calls inline volumes; whoever makes a persistent volume names it otherwise."""
_VERSION_CHARACTERS = frozenset("0123456789abcdef")
_BYTES_MAX = 4096
"""Of all attributes together, by the specification."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be published."""

    dataset: DatasetName | None
    """``None`` for the workers' sockets."""
    version: str = ""
    """An id, a part of one, or a label; empty for the current one."""
    follow: bool = False
    path: str = ""
    """A folder of the dataset; empty for all of it."""


def parse(attributes: Mapping[str, str], *, home: str = "") -> Wanted:
    """Return what attributes mean.

    Args:
        attributes: Of the volume.
        home: The namespace of a dataset that is named without one; else ``default``.

    Raises:
        ConfigError: They make no sense; says which.
    """
    own = {
        key: value
        for key, value in attributes.items()
        if not key.startswith(_SYSTEM_PREFIX) and key != _PROVISIONER
    }
    if sum(len(key.encode()) + len(value.encode()) for key, value in own.items()) > _BYTES_MAX:
        raise ConfigError(f"the volume's attributes are more than {_BYTES_MAX} bytes")
    unknown = sorted(set(own) - {DATASET, VERSION, FOLLOW, PATH, USE})
    if unknown:
        raise ConfigError("no such volume attribute", subject=printable(unknown[0]))
    if USE in own:
        if own != {USE: SOCKETS}:
            raise ConfigError(f"{USE} can be {SOCKETS!r}, and then nothing else is said")
        return Wanted(None)
    if not own.get(DATASET):
        raise ConfigError("the volume does not say of which dataset it is", subject=DATASET)
    follow = _truth(own.get(FOLLOW, "false"))
    version = own.get(VERSION, "")
    if version and follow:
        raise ConfigError(f"{VERSION} and {FOLLOW} exclude each other")
    if version and not _is_version(version):
        parse_label(version)
    path = own.get(PATH, "").strip("/")
    return Wanted(_dataset(own[DATASET], home), version, follow, parse_path(path) if path else "")


def pod_namespace(volume: str, attributes: Mapping[str, str]) -> str | None:
    """Return the namespace of the pod that asks; ``None`` for a persistent volume of which it is not told.

    Raises:
        DeniedError: Without it, an inline volume could be of anybody's dataset.
    """
    namespace = attributes.get(POD_NAMESPACE)
    inline = attributes.get(EPHEMERAL) == "true" or _INLINE_ID.fullmatch(volume)
    if inline and not namespace:
        raise DeniedError(
            "the kubelet does not say whose pod it is",
            subject=printable(volume),
            hint="podInfoOnMount must be true in the CSIDriver object",
        )
    return namespace or None


def check_allowed(
    wanted: Wanted,
    namespace: str | None,
    *,
    system_namespace: str,
    shared_with: Callable[[DatasetName], Sequence[str]],
) -> None:
    """Refuse what a pod may not have.

    Args:
        wanted: What it asks for.
        namespace: The pod's, by the kubelet's word; ``None`` if there is no pod that asks: then it is a
            persistent volume, and who made that answered for it.
        system_namespace: Whose pods may have the sockets.
        shared_with: Returns the namespaces that may use a dataset; asked for those of others only.

    Raises:
        DeniedError: It may not.
        CacheFSError: What ``shared_with`` raises.
    """
    if wanted.dataset is None:
        if namespace != system_namespace:
            raise DeniedError(
                "the sockets of workers are for workers", subject=printable(namespace or "")
            )
        return
    if namespace is None or namespace == wanted.dataset.namespace:
        return
    allowed = shared_with(wanted.dataset)
    if namespace in allowed or EVERYBODY in allowed:
        return
    raise DeniedError(
        # Whether there is such a dataset is nobody's business who may not use it.
        f"no such dataset, or not shared with the namespace {printable(namespace)}",
        subject=str(wanted.dataset),
        hint="its owner can name your namespace in the dataset's sharedWith",
    )


def _dataset(text: str, home: str) -> DatasetName:
    if "/" in text:
        return DatasetName.parse(text)
    return DatasetName(
        parse_name(home or DEFAULT_NAMESPACE, kind="namespace"), parse_name(text, kind="dataset")
    )


def _truth(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ConfigError(f"{FOLLOW} is true or false", subject=printable(text))
    return text.lower() == "true"


def _is_version(text: str) -> bool:
    return 4 <= len(text) <= 40 and set(text) <= _VERSION_CHARACTERS
