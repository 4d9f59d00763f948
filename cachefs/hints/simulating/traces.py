"""Traces: what was asked for, when, and for how long.

Two public collections are read, told apart by their first line; both are cited, and neither is part of
this project:

- GenTD26 (Alibaba's cluster-trace-v2026-GenAI), ``lora_request_trace.csv``: requests to a service that
  makes images, with the id of the model and the seconds it took;
- openb (Alibaba's cluster-trace-gpu-v2023), ``openb_pod_list_default.csv``: pods with the number of
  their accelerators, and ``openb_node_list_gpu_node.csv``: the nodes they ran on.

Neither says how large a model is, and openb does not say which model a pod used at all; :func:`sizes` and
:func:`read_trace` draw that by seed.
"""

import csv
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from math import exp, log
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cachefs.errors import ConfigError

SMALLEST_BYTES = 4e9
LARGEST_BYTES = 64e9
"""Models are drawn between these: from one of two billion parameters to one of thirty, in 16 bits."""
_DRAWN_MODELS = 86
"""How many models are drawn for a trace that names none: as many as GenTD26 has."""
_POPULARITY = 1.43
"""The exponent of Zipf's law by which they are drawn: the first five get 70 % of all, as in GenTD26."""
_REQUEST_COLUMNS = {"gmt_create", "exec_time_seconds", "checkpoint_model_version_id"}
_POD_COLUMNS = {"num_gpu", "gpu_milli", "creation_time", "deletion_time", "scheduled_time"}
_NODE_COLUMNS = {"sn", "gpu"}


@dataclass(frozen=True, slots=True)
class Request:
    """Somebody wanted a model for a while."""

    at: float
    """Seconds since the first request of the trace."""
    model: str
    runs_seconds: float
    gpus: int = 1


class Trace(NamedTuple):
    """Requests in the order of their arrival."""

    name: str
    requests: tuple[Request, ...]
    models_are_drawn: bool = False
    """Whether the trace itself names no models."""

    @property
    def models(self) -> tuple[str, ...]:
        """All models, sorted."""
        return tuple(sorted({request.model for request in self.requests}))


def read_trace(
    path: Path, *, speedup: float = 1.0, first: int = 0, limit: int | None = None, seed: int = 0
) -> Trace:
    """Read a trace.

    Args:
        path: A file of either collection.
        speedup: Arrivals are moved together by this factor; how long requests run is not changed.
        first: How many requests are left out at the beginning.
        limit: How many are read at most.
        seed: For models that the trace does not name.

    Raises:
        ConfigError: The file cannot be read, or is no trace.
    """
    rows = _rows(path)
    columns = set(next(rows, {}))
    if columns >= _REQUEST_COLUMNS:
        requests, drawn = list(_requests(path, _rows(path))), False
    elif columns >= _POD_COLUMNS:
        requests, drawn = _with_models(list(_pods(path, _rows(path))), seed), True
    else:
        raise ConfigError("not a trace that is known", subject=str(path), hint=_KNOWN)
    requests.sort(key=lambda request: request.at)
    kept = requests[first : None if limit is None else first + limit]
    if not kept:
        raise ConfigError("no requests", subject=str(path), hint="less to leave out, a longer file")
    begin = kept[0].at
    moved = (
        Request((each.at - begin) / speedup, each.model, each.runs_seconds, each.gpus)
        for each in kept
    )
    return Trace(path.name, tuple(moved), drawn)


_KNOWN = "GenTD26's lora_request_trace.csv or openb's openb_pod_list_default.csv"


def read_nodes(path: Path) -> tuple[int, ...]:
    """Read openb's list of nodes: how many accelerators each has.

    Raises:
        ConfigError: The file cannot be read, or is no such list.
    """
    nodes = []
    for number, row in enumerate(_rows(path), start=2):
        if not row.keys() >= _NODE_COLUMNS:
            raise ConfigError("not a list of nodes", subject=str(path), hint="columns sn and gpu")
        count = int(_number(path, number, row["gpu"]))
        if count > 0:
            nodes.append(count)
    if not nodes:
        raise ConfigError("no nodes with accelerators", subject=str(path))
    return tuple(nodes)


def sizes(
    models: Iterable[str],
    *,
    seed: int,
    smallest: float = SMALLEST_BYTES,
    largest: float = LARGEST_BYTES,
) -> Mapping[str, float]:
    """Draw a size for each model, in bytes: log-uniform, the same for the same seed and models."""
    drawn = np.random.default_rng([seed, 0x512E])
    low, high = log(smallest), log(largest)
    return {model: round(exp(drawn.uniform(low, high))) for model in sorted(models)}


def _rows(path: Path) -> Iterator[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            yield from csv.DictReader(file)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"the trace cannot be read: {error}", subject=str(path)) from error


def _requests(path: Path, rows: Iterable[dict[str, str]]) -> Iterator[Request]:
    for number, row in enumerate(rows, start=2):
        if not row["checkpoint_model_version_id"]:
            continue  # One in a thousand was refused before it had a model.
        at = _moment(path, number, row["gmt_create"])
        yield Request(
            at,
            row["checkpoint_model_version_id"],
            _number(path, number, row["exec_time_seconds"]),
        )


def _pods(path: Path, rows: Iterable[dict[str, str]]) -> Iterator[Request]:
    """Yield pods that used accelerators, and ended. A part of an accelerator counts as one."""
    for number, row in enumerate(rows, start=2):
        gpus = int(_number(path, number, row["num_gpu"]))
        if gpus == 0 or not row["scheduled_time"] or not row["deletion_time"]:
            continue
        began = _number(path, number, row["scheduled_time"])
        ended = _number(path, number, row["deletion_time"])
        at = _number(path, number, row["creation_time"])
        yield Request(at, "", max(ended - began, 0.0), gpus)


def _with_models(pods: list[Request], seed: int) -> list[Request]:
    shares = 1 / np.arange(1, _DRAWN_MODELS + 1) ** _POPULARITY
    drawn = np.random.default_rng([seed, 0x0DE1])
    numbers = drawn.choice(_DRAWN_MODELS, size=len(pods), p=shares / shares.sum()).tolist()
    return [
        Request(pod.at, f"D{number:04}", pod.runs_seconds, pod.gpus)
        for pod, number in zip(pods, numbers, strict=True)
    ]


def _moment(path: Path, number: int, text: str) -> float:
    try:
        return datetime.fromisoformat(f"{text}+00:00").timestamp()
    except ValueError:
        raise ConfigError(f"line {number}: {text!r} is no time", subject=str(path)) from None


def _number(path: Path, number: int, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"line {number}: {text!r} is no number", subject=str(path)) from None
