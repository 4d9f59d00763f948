"""Volumes: which datasets a pod reads by path, and where.

A pod says it in one of three ways: by a volume of the CSI driver, by the claim that the operator made for
a dataset (which has the dataset's name, so the annotation ``cachefs.io/datasets`` must name it, too: a claim
alone may be anybody's), or by a path in that annotation, ``llama-70b@v2=/models/llama``, for which it has no
volume at all.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from cachefs.core.hints.asking import dataset_named
from cachefs.core.names import DatasetName, parse_name, parse_path
from cachefs.errors import ConfigError
from cachefs.hints.consumers.fields import field, text, texts
from cachefs.hints.consumers.pods import DATASETS_MAX, listed
from cachefs.k8s.names import DRIVER, NAMED_DATASETS

CONTAINERS = ("initContainers", "containers")
"""The lists of a pod's containers; those that are added to debug it come and go by themselves."""
_FOLDER = re.compile(r"/[^\0:=]{1,1023}")
"""A path in a container: absolute; Kubernetes takes no colon."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A dataset that a pod reads by path."""

    dataset: DatasetName
    version: str | None
    path: str = ""
    """Of the folder in the dataset that is shown; empty for all of it."""
    volume: int | None = None
    """The pod's volume, by its index; ``None`` if there is none yet."""
    folder: str = ""
    """Where containers see it, if there is no volume yet."""

    @property
    def reference(self) -> str:
        """What it is, as the command line says it."""
        version = f"@{self.version}" if self.version else ""
        path = f"/{self.path}" if self.path else ""
        return f"{self.dataset.namespace}/{self.dataset.name}{version}{path}"


def shown_in(pod: Any, namespace: str) -> list[Shown]:  # Any: JSON
    """Return what a pod reads by path.

    Args:
        pod: The pod.
        namespace: Where it is.

    Raises:
        ConfigError: A name or a path makes no sense; it says where.
    """
    named = list(_annotated(pod))
    found = [*_volumes(pod, namespace, {each.dataset: each for each in named})]
    found += [each for each in named if each.folder]
    if len(found) > DATASETS_MAX:
        raise ConfigError(f"a pod reads at most {DATASETS_MAX} datasets")
    return found


def named_in(pod: Any, namespace: str) -> list[DatasetName]:  # Any: JSON
    """Return the datasets that a pod names in any way, each once; errors as of :func:`shown_in`."""
    every = [each.dataset for each in (*_annotated(pod), *shown_in(pod, namespace))]
    return list(dict.fromkeys(every))


def unnamed_in(pod: Any, namespace: str) -> list[str]:  # Any: JSON
    """Return what the annotation would have to list for all datasets of volumes to be named there."""
    named = {each.dataset for each in _annotated(pod)}
    shown = [each for each in shown_in(pod, namespace) if each.dataset not in named]
    return list(dict.fromkeys(replace(each, path="").reference for each in shown))


def _annotated(pod: Any) -> Iterator[Shown]:  # Any: JSON
    for written in listed(texts(pod, "metadata", "annotations").get(NAMED_DATASETS, "")):
        name, given, folder = written.partition("=")
        if given and not _FOLDER.fullmatch(folder):
            raise ConfigError("not a path in a container", subject=folder[:100])
        try:
            dataset, version = dataset_named(name)
        except ConfigError as error:
            raise ConfigError(error.message, subject=NAMED_DATASETS, hint=error.hint) from error
        yield Shown(dataset, version, folder=folder)


def _volumes(
    pod: Any, namespace: str, named: Mapping[DatasetName, Shown]
) -> Iterator[Shown]:  # Any: JSON
    volumes = field(pod, "spec", "volumes")
    for index, volume in enumerate(volumes if isinstance(volumes, list) else ()):
        if text(volume, "csi", "driver") == DRIVER:
            attributes = texts(volume, "csi", "volumeAttributes")
            if "dataset" not in attributes:
                continue  # the driver's own, for pods of ours
            yield _attributed(attributes, namespace, index, text(volume, "name"))
            continue
        claim = text(volume, "persistentVolumeClaim", "claimName")
        known = named.get(DatasetName(namespace, claim)) if claim else None
        if known is not None and not known.folder:
            yield Shown(known.dataset, known.version, volume=index)


def _attributed(attributes: Mapping[str, str], namespace: str, index: int, volume: str) -> Shown:
    try:
        written = attributes["dataset"]
        whole = (
            written if "/" in written else f"{parse_name(namespace, kind='namespace')}/{written}"
        )
        given = attributes.get("version", "")
        dataset, version = dataset_named(f"{whole}@{given}" if given else whole)
        path = attributes.get("path", "").strip("/")
        if path:
            parse_path(path)
    except ConfigError as error:
        raise ConfigError(error.message, subject=f"volume {volume}", hint=error.hint) from error
    return Shown(dataset, version, path, volume=index)
