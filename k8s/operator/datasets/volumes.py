"""Volumes: for each dataset a persistent volume and the claim that pods name. Pure.

Nothing provisions: the volume is written here, bound to the one claim from the beginning. Most of what the two
say can never be changed, and is never tried to be: a dataset that grows keeps the sizes with which its volume
was made, for they mean nothing to a volume that is only read.

What people and Kubernetes do to the two is mended. A claim that was deleted leaves its volume *released*, held
for a claim that will never come back: the hold is taken away, and a new claim made. A volume that was deleted is
made anew, and its claim found in it what it had lost. A volume that should be another than it is, is made
anew as soon as nobody claims it.
"""

import hashlib
from dataclasses import dataclass

from cachefs.k8s.crds.datasets import DatasetSpec
from cachefs.k8s.kinds import VOLUME_CLAIMS, VOLUMES
from cachefs.k8s.names import API_VERSION, DATASET, DATASET_NAMESPACE, DRIVER, MANAGED_BY
from cachefs.k8s.operator.actions import Action, Create, Delete, Document, Patch, includes

_LEAST_BYTES = 1
"""A volume of nothing is refused."""
_MODES = ["ReadOnlyMany"]


@dataclass(frozen=True, slots=True)
class VolumePlan:
    """What is to be done about a dataset's volume, and what a person should know."""

    actions: tuple[Action, ...] = ()
    problem: str = ""
    """Why it is not as it shall be, although nothing more can be done now; empty for nothing."""


def volume_name(namespace: str, name: str) -> str:
    """Return what a dataset's persistent volume is called: it has no namespace, so two must not meet."""
    digest = hashlib.sha256(f"{namespace}/{name}".encode()).hexdigest()[:8]
    return f"cachefs-{namespace}-{name}-{digest}"


def labels_of(namespace: str, name: str) -> dict[str, str]:
    """Return the labels of what is made for a dataset."""
    return {MANAGED_BY: "cachefs", DATASET: name, DATASET_NAMESPACE: namespace}


def reconcile(
    document: Document,
    spec: DatasetSpec,
    size: int,
    *,
    claim: Document | None,
    volume: Document | None,
) -> VolumePlan:
    """Compare a dataset's volume and claim with what they shall be.

    Args:
        document: The dataset's object, which owns the claim.
        spec: What it says.
        size: Bytes that the dataset has.
        claim: The claim of its name, if there is one.
        volume: The volume of its name, if there is one.
    """
    there = [one for one in (claim, volume) if one is not None]
    for one in there:
        if not _is_ours(one, spec):
            problem = f"the {one['kind']} {one['metadata']['name']} is somebody else's"
            return VolumePlan((), problem if spec.volume.enabled else "")
    if not spec.volume.enabled:
        return VolumePlan(_removed(claim, volume))
    for one in there:
        if one["metadata"].get("deletionTimestamp"):
            return VolumePlan((), f"the {one['kind']} is being deleted, and pods still use it")
    return _mended(document, spec, size, claim, volume)


def _mended(
    document: Document,
    spec: DatasetSpec,
    size: int,
    claim: Document | None,
    volume: Document | None,
) -> VolumePlan:
    """Return what makes both, or what is wrong with them good."""
    wanted = _volume(spec, _capacity(spec, size, claim))
    actions: list[Action] = []
    if volume is None:
        actions.append(Create(wanted))
    elif not includes(volume["spec"]["csi"], wanted["spec"]["csi"]):
        if claim is not None:
            problem = (
                "the volume's settings are others by now: delete the claim to have it made anew"
            )
            return VolumePlan((), problem)
        return VolumePlan((Delete(kind=VOLUMES, name=volume["metadata"]["name"]),))
    elif _is_held(volume, claim):
        free: Document = {"spec": {"claimRef": {"uid": None, "resourceVersion": None}}}
        actions.append(Patch(kind=VOLUMES, name=volume["metadata"]["name"], patch=free))
    if claim is None:
        room = wanted if volume is None else volume
        actions.append(Create(_claim(document, spec, room["spec"]["capacity"]["storage"])))
    return VolumePlan(tuple(actions))


def forgotten(volume: Document | None) -> tuple[Action, ...]:
    """Return what removes the volume of a dataset whose object is gone."""
    if volume is None or volume["metadata"].get("deletionTimestamp"):
        return ()
    return (Delete(kind=VOLUMES, name=volume["metadata"]["name"]),)


def _is_ours(found: Document, spec: DatasetSpec) -> bool:
    labels = found["metadata"].get("labels") or {}
    return includes(labels, labels_of(spec.name.namespace, spec.name.name))


def _removed(claim: Document | None, volume: Document | None) -> tuple[Action, ...]:
    """Delete both, the claim first: its volume stays as long as pods use it."""
    if claim is not None:
        if claim["metadata"].get("deletionTimestamp"):
            return ()
        head = claim["metadata"]
        return (
            Delete(
                kind=VOLUME_CLAIMS,
                name=head["name"],
                namespace=head["namespace"],
                uid=head.get("uid", ""),
            ),
        )
    return forgotten(volume)


def _is_held(volume: Document, claim: Document | None) -> bool:
    """Say whether a volume waits for a claim that is gone, although another may be there."""
    held = (volume["spec"].get("claimRef") or {}).get("uid")
    return bool(held) and (claim is None or held != claim["metadata"].get("uid"))


def _capacity(spec: DatasetSpec, size: int, claim: Document | None) -> str:
    if claim is not None:
        return str(claim["spec"]["resources"]["requests"]["storage"])
    return str(max(spec.volume.storage_bytes or size, _LEAST_BYTES))


def _volume(spec: DatasetSpec, capacity: str) -> Document:
    namespace, name = spec.name.namespace, spec.name.name
    attributes = {"dataset": f"{namespace}/{name}"}
    if spec.volume.follow_current:
        attributes["followCurrent"] = "true"
    return {
        "apiVersion": VOLUMES.api_version,
        "kind": VOLUMES.kind,
        "metadata": {
            "name": volume_name(namespace, name),
            "labels": labels_of(namespace, name),
        },
        "spec": {
            "capacity": {"storage": capacity},
            "accessModes": list(_MODES),
            "volumeMode": "Filesystem",
            # Deleting a claim deletes no data: there is none that is the volume's own.
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "",
            "claimRef": {
                "apiVersion": VOLUME_CLAIMS.api_version,
                "kind": VOLUME_CLAIMS.kind,
                "namespace": namespace,
                "name": name,
            },
            "csi": {
                "driver": DRIVER,
                "volumeHandle": f"{namespace}/{name}",
                "readOnly": True,
                "volumeAttributes": attributes,
            },
        },
    }


def _claim(document: Document, spec: DatasetSpec, capacity: str) -> Document:
    namespace, name = spec.name.namespace, spec.name.name
    return {
        "apiVersion": VOLUME_CLAIMS.api_version,
        "kind": VOLUME_CLAIMS.kind,
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": labels_of(namespace, name),
            "ownerReferences": [
                {
                    "apiVersion": API_VERSION,
                    "kind": document["kind"],
                    "name": name,
                    "uid": document["metadata"]["uid"],
                    "controller": True,
                }
            ],
        },
        "spec": {
            "accessModes": list(_MODES),
            "volumeMode": "Filesystem",
            # Not absent, which would mean the cluster's default class.
            "storageClassName": "",
            "volumeName": volume_name(namespace, name),
            "resources": {"requests": {"storage": capacity}},
        },
    }
