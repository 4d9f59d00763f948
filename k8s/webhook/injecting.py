"""Injecting: what a pod with the label ``cachefs.io/inject`` is given, so that it reads its datasets.

==============  ==================================================================================
``csi``         nothing but ``HostToContainer`` where it mounts datasets, so that it sees a mount that was healed
``files``       a container that runs first copies each dataset into a volume of the pod's own, and ends
``endpoint``    a native sidecar serves S3 and the Hugging Face Hub at the pod's own loopback address
``sidecar``     a native sidecar for each dataset mounts it; it is privileged, as the kernel wants it to be
``"true"``      whichever of these the installation says
==============  ==================================================================================

What is the user's stays, in its order; ours comes before it, since init containers may need it. Native
sidecars (init containers that restart) end after all others, so a job's pod completes. What cannot be
done is a warning, and the pod stays as it is: nobody is given half of it.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from cachefs.errors import ConfigError
from cachefs.hints.consumers.fields import field, objects, text, texts
from cachefs.hints.consumers.patching import annotation
from cachefs.k8s.names import INJECT, INJECTED, NAMED_DATASETS, SIZE_LIMIT
from cachefs.k8s.webhook import containers
from cachefs.k8s.webhook.containers import Document, Injection
from cachefs.k8s.webhook.drafting import Draft
from cachefs.k8s.webhook.volumes import CONTAINERS, Shown, named_in, shown_in, unnamed_in

PROPAGATION = "HostToContainer"
_QUANTITY = re.compile(r"[1-9]\d{0,15}(\.\d{1,3})?([kMGTPE]i?|Ki)?", re.ASCII)


class Mode(StrEnum):
    """What is injected."""

    CSI = "csi"
    FILES = "files"
    ENDPOINT = "endpoint"
    SIDECAR = "sidecar"


@dataclass(frozen=True, slots=True)
class Injecting:
    """How pods are given what they ask for."""

    settings: Injection
    default: Mode = Mode.CSI
    """What ``"true"`` means here."""

    def change(self, draft: Draft, namespace: str, warnings: list[str]) -> str:
        """Change a pod that asks for it; return what it was given, empty for nothing.

        Args:
            draft: The pod.
            namespace: Where it is.
            warnings: What the user should know is added.

        Raises:
            ConfigError: What it asks for makes no sense, or cannot be done; the draft is of no more use.
        """
        asked = texts(draft.pod, "metadata", "labels").get(INJECT, "")
        if not asked or asked == "false" or annotation(draft.pod, INJECTED):
            return ""
        mode = self._mode(asked)
        _refuse_odd_pods(draft.pod, mode)
        changes: Mapping[Mode, Callable[[Draft, str, list[str]], bool]] = {
            Mode.CSI: _propagate,
            Mode.FILES: self._copy,
            Mode.ENDPOINT: self._serve,
            Mode.SIDECAR: self._mount,
        }
        if not changes[mode](draft, namespace, warnings):
            return ""
        draft.annotate(INJECTED, mode.value)
        return mode.value

    def _mode(self, asked: str) -> Mode:
        if asked == "true":
            return self.default
        try:
            return Mode(asked)
        except ValueError as error:
            raise ConfigError(
                "not something to inject",
                subject=f"{INJECT}: {asked}",
                hint=f'write "true", or one of {", ".join(Mode)}',
            ) from error

    def _copy(self, draft: Draft, namespace: str, _warnings: list[str]) -> bool:
        room = _size_limit(draft.pod)
        volumes = _own_volumes(draft, namespace, room)
        if volumes:
            made = containers.copying(self.settings, draft.pod, volumes)
            _put_first(draft, [made], [containers.token_volume(self.settings)])
        return bool(volumes)

    def _mount(self, draft: Draft, namespace: str, _warnings: list[str]) -> bool:
        if any(each.path for each in shown_in(draft.pod, namespace)):
            raise ConfigError("a part of a dataset cannot be mounted by a sidecar", subject=INJECT)
        volumes = _own_volumes(draft, namespace, {})
        _see_mounts(draft, set(volumes))
        if volumes:
            made = [
                containers.mounting(self.settings, draft.pod, index, name, shown)
                for index, (name, shown) in enumerate(volumes.items())
            ]
            own = [containers.token_volume(self.settings), containers.run_volume()]
            _put_first(draft, made, own)
        return bool(volumes)

    def _serve(self, draft: Draft, namespace: str, warnings: list[str]) -> bool:
        named = named_in(draft.pod, namespace)
        if not named:
            raise ConfigError(
                "the pod names no dataset",
                subject=INJECT,
                hint="the annotation cachefs.io/datasets lists those that the endpoint shall serve",
            )
        for place, container in _containers(draft.pod):
            present = {text(each, "name") for each in objects(container, "env")}
            wanted = containers.environment(present)
            if not wanted:
                warnings.append(
                    f"cachefs: container {text(container, 'name')} has settings of its own for S3"
                    " and the Hugging Face Hub, which stay"
                )
                continue
            for each in wanted:
                draft.append((*place, "env"), each)
            draft.append((*place, "volumeMounts"), containers.KEYS_MOUNT)
        made = containers.endpoint(self.settings, draft.pod, named)
        _put_first(
            draft, [made], [containers.token_volume(self.settings), containers.keys_volume()]
        )
        return True


def _refuse_odd_pods(pod: Any, mode: Mode) -> None:  # Any: JSON
    windows = "windows" in (
        text(pod, "spec", "os", "name"),
        texts(pod, "spec", "nodeSelector").get("kubernetes.io/os", ""),
    )
    if windows:
        raise ConfigError("there is nothing to inject into pods of Windows", subject=INJECT)
    if mode is not Mode.CSI and field(pod, "spec", "hostNetwork") is True:
        raise ConfigError("nothing is injected into a pod of the node's network", subject=INJECT)
    taken = {text(each, "name") for _, each in _containers(pod)}
    taken |= {text(each, "name") for each in objects(pod, "spec", "volumes")}
    if ours := sorted(name for name in taken if containers.OURS.fullmatch(name)):
        raise ConfigError(f"the pod has {ours[0]} already", subject=INJECT)


def _propagate(draft: Draft, namespace: str, _warnings: list[str]) -> bool:
    volumes = field(draft.pod, "spec", "volumes")
    shown = [each.volume for each in shown_in(draft.pod, namespace) if each.volume is not None]
    return _see_mounts(draft, {text(volumes[index], "name") for index in shown})


def _see_mounts(draft: Draft, volumes: set[str]) -> bool:
    """Let containers see what is mounted on volumes later; return whether anything changed."""
    changed = False
    for place, container in _containers(draft.pod):
        for at, mount in enumerate(field(container, "volumeMounts") or ()):
            if text(mount, "name") not in volumes or field(mount, "mountPropagation"):
                continue
            # Kubernetes takes no pod that wants both.
            if text(mount, "recursiveReadOnly") in ("", "Disabled"):
                draft.add((*place, "volumeMounts", at, "mountPropagation"), PROPAGATION)
                changed = True
    return changed


def _own_volumes(draft: Draft, namespace: str, room: Document) -> dict[str, Shown]:
    """Give the pod a volume of its own for each dataset that it reads by path; return them by name."""
    found: dict[str, Shown] = {}
    wanted = shown_in(draft.pod, namespace)
    if unnamed := unnamed_in(draft.pod, namespace):
        # Schedulers look at the pod later, and see no volume of ours any more.
        listed = [annotation(draft.pod, NAMED_DATASETS), *unnamed]
        draft.annotate(NAMED_DATASETS, ", ".join(filter(None, listed)))
    for shown in wanted:
        if shown.volume is not None:
            name = text(field(draft.pod, "spec", "volumes")[shown.volume], "name")
            draft.replace(("spec", "volumes", shown.volume), {"name": name, "emptyDir": room})
        else:
            name = f"{containers.PREFIX}-data-{len(found)}"
            draft.append(("spec", "volumes"), {"name": name, "emptyDir": room})
            _show(draft, name, shown.folder)
        found[name] = shown
    return found


def _show(draft: Draft, volume: str, folder: str) -> None:
    for place, container in _containers(draft.pod):
        if any(text(each, "mountPath") == folder for each in objects(container, "volumeMounts")):
            raise ConfigError(
                f"container {text(container, 'name')} has something mounted there", subject=folder
            )
        mount = {"name": volume, "mountPath": folder, "readOnly": True}
        draft.append((*place, "volumeMounts"), mount)


def _containers(pod: Any) -> list[tuple[tuple[str | int, ...], Any]]:  # Any: JSON
    return [
        (("spec", kind, at), each)
        for kind in CONTAINERS
        for at, each in enumerate(field(pod, "spec", kind) or ())
    ]


def _put_first(draft: Draft, made: Sequence[Document], volumes: Sequence[Document]) -> None:
    for volume in volumes:
        draft.append(("spec", "volumes"), volume)
    for container in reversed(made):
        draft.put_first(("spec", "initContainers"), container)


def _size_limit(pod: Any) -> Document:  # Any: JSON
    written = annotation(pod, SIZE_LIMIT)
    if not written:
        return {}
    if not _QUANTITY.fullmatch(written):
        raise ConfigError("not an amount of bytes", subject=f"{SIZE_LIMIT}: {written[:50]}")
    return {"sizeLimit": written}
