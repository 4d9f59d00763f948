"""Pods: what one asks for, as a question.

A pod says by annotations what it reads; a label of the same name does for a single dataset::

    cachefs.io/datasets: "llama-70b@v2, team-a/tokens"
    cachefs.io/affinity: "preferred, llama-70b=required"
    cachefs.io/weights: "team-a/tokens=0.2"
    cachefs.io/deadline: "60s"
    cachefs.io/expected: "2h"
    cachefs.io/loader: "lazy=0.1"

Behind a dataset's name may stand where the pod wants to see it, ``llama-70b@v2=/models/llama``, which is no
matter here. Datasets that it mounts (volumes of the CSI driver ``cachefs.io``) need no annotation, and are of the
pod's namespace unless they name another. Fluid's label ``fluid.io/dataset.<name>.sched: required`` is understood:
it means a dataset of the pod's namespace.
What accelerators it needs is in its resources. All of this is the pod's own, so that weights and
affinities change from one pod to the next and nothing needs to be restarted.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from cachefs.config.units import parse_duration
from cachefs.core.hints.asking import (
    Affinity,
    Loader,
    LoaderMode,
    Question,
    Reading,
    WantedGpu,
    dataset_named,
)
from cachefs.core.names import DEFAULT_NAMESPACE, DatasetName, printable
from cachefs.errors import ConfigError
from cachefs.hints.consumers.fields import field, objects, text, texts

PREFIX = "cachefs.io/"
DRIVER = "cachefs.io"
"""The CSI driver whose volumes are datasets."""
HOLD = "hold"
"""The mark ``cachefs.io/hold``: how long a job may wait for its data, where its scheduler can wait."""
DATASETS_MAX = 64
"""Of one pod."""
WEIGHT_MAX = 1e6
YEAR_SECONDS = 365 * 86400.0
"""Nobody waits, or runs, for longer."""

Change = Callable[[Reading, str], Reading]
"""What a word of an annotation makes of a reading."""

_FLUID = re.compile(r"fluid\.io/dataset\.([a-z0-9.-]+)\.sched", re.ASCII)
_PLAIN = re.compile(r"\d+(\.\d+)?", re.ASCII)
"""Seconds without a unit."""
_GPU = "nvidia.com/gpu"
_MIG = "nvidia.com/mig-"
_FRACTION = "gpu-fraction"
"""KAI's annotation: a share of one accelerator."""


def question_of(pod: Any, *, namespace: str = "") -> Question | None:  # Any: JSON
    """Return what a pod asks for; ``None`` if it names no dataset, and is none of our business.

    Args:
        pod: The pod, or the template of one.
        namespace: Where it is; as its metadata say by default.

    Raises:
        ConfigError: An annotation of ours makes no sense; it says which.
    """
    namespace = text(pod, "metadata", "namespace") or namespace or DEFAULT_NAMESPACE
    marks = _marks(pod)
    readings = _readings(pod, marks, namespace)
    if not readings:
        return None
    name = text(pod, "metadata", "name") or text(pod, "metadata", "generateName")
    return Question(
        job=f"{namespace}/{name}" if name else "",
        tenant=namespace,
        readings=tuple(readings.values()),
        gpu=wanted_gpu(pod),
        image=_image(pod),
        selector=texts(pod, "spec", "nodeSelector"),
        loader=_loader(marks),
        deadline_seconds=duration_of(marks, "deadline"),
        expected_seconds=duration_of(marks, "expected"),
    )


def marks_of(*holders: Any) -> Mapping[str, str]:  # Any: JSON
    """Return our annotations and labels of some objects, without their prefix; the first object's win."""
    found: dict[str, str] = {}
    for holder in reversed(holders):
        found |= _marks(holder)
    return found


def duration_of(marks: Mapping[str, str], name: str) -> float | None:
    """Return a mark's seconds, written ``90``, ``60s`` or ``5m``; ``None`` if it is not there.

    Raises:
        ConfigError: It is no duration.
    """
    written = marks.get(name)
    if written is None:
        return None
    try:
        seconds = float(written) if _PLAIN.fullmatch(written) else parse_duration(written)
    except ConfigError as error:
        raise ConfigError(error.message, subject=PREFIX + name, hint=error.hint) from error
    if seconds > YEAR_SECONDS:
        raise ConfigError("longer than a year", subject=PREFIX + name)
    return seconds


def _marks(holder: Any) -> Mapping[str, str]:  # Any: JSON
    found = {**texts(holder, "metadata", "labels"), **texts(holder, "metadata", "annotations")}
    return {key.removeprefix(PREFIX): each for key, each in found.items() if key.startswith(PREFIX)}


def _readings(
    pod: Any, marks: Mapping[str, str], namespace: str
) -> dict[DatasetName, Reading]:  # Any: JSON
    readings: dict[DatasetName, Reading] = {}
    # Where it shall be seen is for whoever brings it there.
    named = [word.partition("=")[0] for word in listed(marks.get("datasets", ""))]
    named += _mounted(pod, namespace)
    for written in named[: DATASETS_MAX + 1]:
        reading = _reading(written)
        readings.setdefault(reading.dataset, reading)
    for dataset, affinity in _fluid(pod, namespace):
        # An annotation may name it without the namespace that Fluid's label implies.
        plain = DatasetName(DEFAULT_NAMESPACE, dataset.name)
        known = plain if plain in readings else dataset
        reading = readings.get(known, Reading(dataset=known))
        readings[known] = replace(reading, affinity=affinity)
    if len(readings) > DATASETS_MAX:
        raise ConfigError(
            f"a pod names at most {DATASETS_MAX} datasets", subject=PREFIX + "datasets"
        )
    _apply(readings, marks, "affinity", _as_affinity)
    _apply(readings, marks, "weights", _as_weight)
    return readings


def listed(written: str) -> list[str]:
    """Return the words of an annotation that lists some."""
    return [word for word in re.split(r"[,\s]+", written) if word]


def _mounted(pod: Any, namespace: str) -> Iterator[str]:  # Any: JSON
    for volume in objects(pod, "spec", "volumes"):
        if text(volume, "csi", "driver") == DRIVER:
            dataset = text(volume, "csi", "volumeAttributes", "dataset")
            version = text(volume, "csi", "volumeAttributes", "version")
            if dataset:
                # As the driver takes it: a bare name is of the pod's own namespace.
                dataset = dataset if "/" in dataset else f"{namespace}/{dataset}"
                yield f"{dataset}@{version}" if version and "@" not in dataset else dataset


def _reading(written: str) -> Reading:
    try:
        dataset, version = dataset_named(written)
    except ConfigError as error:
        raise ConfigError(error.message, subject=PREFIX + "datasets", hint=error.hint) from error
    return Reading(dataset=dataset, version=version)


def _fluid(pod: Any, namespace: str) -> Iterator[tuple[DatasetName, Affinity]]:  # Any: JSON
    for key, value in texts(pod, "metadata", "labels").items():
        match = _FLUID.fullmatch(key)
        if match is not None:
            with suppress(
                ConfigError
            ):  # Fluid's names may be longer than ours: it is no dataset here
                dataset = DatasetName.parse(f"{namespace}/{match[1]}")
                yield dataset, Affinity.REQUIRED if value == "required" else Affinity.PREFERRED


def _apply(
    readings: dict[DatasetName, Reading], marks: Mapping[str, str], mark: str, change: Change
) -> None:
    """Apply ``word, name=word``: a word alone is for all datasets, with a name for that one."""
    words = listed(marks.get(mark, ""))
    for written in sorted(words, key=lambda word: "=" in word):  # the general ones first
        name, given, value = written.rpartition("=")
        try:
            for each in _known(readings, name) if given else tuple(readings):
                readings[each] = change(readings[each], value)
        except ConfigError as error:
            raise ConfigError(error.message, subject=PREFIX + mark, hint=error.hint) from error


def _known(readings: Mapping[DatasetName, Reading], name: str) -> tuple[DatasetName, ...]:
    dataset = DatasetName.parse(name)
    if dataset in readings:
        return (dataset,)
    # What a volume mounts is of the pod's namespace, though neither may say so.
    alike = tuple(each for each in readings if "/" not in name and each.name == name)
    if len(alike) != 1:
        raise ConfigError(f"the pod reads no dataset {printable(name)!r}")
    return alike


def _as_affinity(reading: Reading, word: str) -> Reading:
    if word not in list(Affinity):
        raise ConfigError(
            f"not an affinity: {printable(word)!r}", hint="write required or preferred"
        )
    return replace(reading, affinity=Affinity(word))


def _as_weight(reading: Reading, word: str) -> Reading:
    try:
        weight = float(word)
    except ValueError as error:
        raise ConfigError(f"not a weight: {printable(word)!r}") from error
    if weight > WEIGHT_MAX:
        raise ConfigError(f"a weight is at most {WEIGHT_MAX:,.0f}")
    return replace(reading, weight=weight)


def _loader(marks: Mapping[str, str]) -> Loader:
    mode, given, fraction = marks.get("loader", LoaderMode.PIPELINED).partition("=")
    try:
        required = float(fraction) if given else 1.0
        return Loader(mode=LoaderMode(mode), required_fraction=required)
    except ValueError as error:
        raise ConfigError(
            "not a loader", subject=PREFIX + "loader", hint="write pipelined, serial or lazy=0.1"
        ) from error


def wanted_gpu(pod: Any) -> WantedGpu | None:  # Any: JSON
    """Return what a pod needs of a node's accelerators, by its resources; ``None`` for nothing.

    Containers run side by side, those that initialise before them, one by one. A pod with several MIG
    slices is asked for as one with one of them.
    """
    together: dict[str, float] = {}
    for container in objects(pod, "spec", "containers"):
        for resource, count in _resources(container):
            together[resource] = together.get(resource, 0) + count
    for container in objects(pod, "spec", "initContainers"):
        for resource, count in _resources(container):
            together[resource] = max(together.get(resource, 0), count)
    profile = next((each for each in together if each.startswith(_MIG) and together[each]), None)
    if profile is not None:
        return WantedGpu(mig_profile=profile.removeprefix(_MIG))
    with suppress(ValueError):  # a fraction that is none is KAI's to refuse
        fraction = float(texts(pod, "metadata", "annotations").get(_FRACTION, ""))
        return WantedGpu(fraction=fraction)
    count = int(together.get(_GPU, 0))
    return WantedGpu(count=min(count, 1024)) if count else None


def _resources(container: Any) -> Iterator[tuple[str, float]]:  # Any: JSON
    for resource, amount in {
        **(field(container, "resources", "limits") or {}),
        **(field(container, "resources", "requests") or {}),
    }.items():
        if resource == _GPU or resource.startswith(_MIG):
            with suppress(ValueError, TypeError):  # the API server refuses a count that is none
                yield resource, float(amount)


def _image(pod: Any) -> str | None:  # Any: JSON
    """Return the image of the first container that needs accelerators, else of the first."""
    containers = objects(pod, "spec", "containers")
    hungry = [each for each in containers if any(count for _, count in _resources(each))]
    chosen = (hungry or containers)[:1]
    return text(chosen[0], "image") or None if chosen else None
