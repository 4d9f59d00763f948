"""What a worker says of its node, and of the bytes on their way to it, within its statistics.

Both are JSON objects beside the other statistics, so that they are stored with each renewal and every
coordinator on the store has them. Whoever reads them takes a worker of another version as it is: what is
not there, or is not what it should be, is not known.

``node``     what the machine is: name, place, labels, processors, memory, accelerators, rates.
``traffic``  what moves: the transfers that run, by where from, what is queued, and what is awaited.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from cachefs.core.blocks import FileVersionId
from cachefs.core.hints.nodes import Gpu

AWAITED_LIMIT = 512
"""File versions in one report of what is awaited: the first ones to come."""
_MASK_DIGITS_MAX = 65_536
"""Of all masks of a report together: the blocks of 2 TB, and a quarter of what a renewal may say."""
_GPUS_MAX = 1024
_LABELS_MAX = 256
_TEXT_MAX = 1024

Document = Mapping[str, Any]  # Any: JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeReport:
    """A machine as one of its workers sees it."""

    name: str
    """What schedulers call it."""
    rack: str = ""
    region: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    cpus: int = 0
    """Processors that programs may use; 0 if nobody knows."""
    memory_bytes: int = 0
    memory_free_bytes: int = 0
    """What programs could still have, the kernel's cache included."""
    gpus: tuple[Gpu, ...] = ()
    numa_nodes: int = 1
    nic_bytes_rate: float = 0.0
    """Configured, or as fast as the card's link; 0 if nobody knows."""
    disk_bytes_rate: float = 0.0
    memory_numa: int | None = None
    """The NUMA node that the memory tier is bound to; ``None`` if to none."""

    def to_document(self) -> dict[str, Any]:  # Any: JSON
        """Return it as a JSON object, without what nobody knows."""
        plain = {name: getattr(self, name) for name in _PLAIN}
        # 0 is a NUMA node's number, and everywhere else it is what nobody knows.
        document: dict[str, Any] = {  # Any: likewise
            name: value
            for name, value in plain.items()
            if value is not None and (value or name == "memory_numa")
        }
        if self.labels:
            document["labels"] = dict(self.labels)
        if self.gpus:
            document["gpus"] = [_gpu_document(gpu) for gpu in self.gpus]
        return document


_PLAIN = (
    "name",
    "rack",
    "region",
    "cpus",
    "memory_bytes",
    "memory_free_bytes",
    "numa_nodes",
    "nic_bytes_rate",
    "disk_bytes_rate",
    "memory_numa",
)


class Awaited(NamedTuple):
    """Blocks of a file that are on their way to a worker, or queued to be."""

    file_version: FileVersionId
    mask: int
    seconds: float
    """Until the last of them is there, as the worker estimates it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficReport:
    """What moves to and from a worker at a moment."""

    from_workers: Mapping[str, int] = field(default_factory=dict)
    """Transfers that run, by the worker that sends."""
    from_origins: Mapping[str, int] = field(default_factory=dict)
    """Likewise, by the dataset whose origin sends."""
    sending: int = 0
    """Transfers to others that run."""
    from_disk: int = 0
    """Of these, the ones that read the disk tier."""
    queued_bytes: int = 0
    """Wanted, by reads and warm-ups, and not begun."""
    queued_reads_bytes: int = 0
    """Of these, what reads wait for: it comes before whatever a warm-up wants."""
    awaited: tuple[Awaited, ...] = ()
    """Begun or queued, the first to come in front."""

    def to_document(self) -> dict[str, Any]:  # Any: JSON
        """Return it as a JSON object, without what is nothing."""
        document = {
            "from_workers": dict(self.from_workers),
            "from_origins": dict(self.from_origins),
            "sending": self.sending,
            "from_disk": self.from_disk,
            "queued_bytes": self.queued_bytes,
            "queued_reads_bytes": self.queued_reads_bytes,
            "awaited": self._awaited_rows(),
        }
        return {name: value for name, value in document.items() if value}

    def _awaited_rows(self) -> list[list[Any]]:  # Any: JSON
        rows: list[list[Any]] = []  # Any: likewise
        left = _MASK_DIGITS_MAX
        for each in self.awaited[:AWAITED_LIMIT]:
            digits = f"{each.mask:x}"
            left -= len(digits)
            if left < 0:
                break
            rows.append([each.file_version, digits, round(each.seconds, 3)])
        return rows


NO_TRAFFIC = TrafficReport()


def read_node(statistics: Document) -> NodeReport | None:
    """Read what a worker's statistics say of its node; ``None`` if they say nothing."""
    document = statistics.get("node")
    if not isinstance(document, dict) or not (name := _text(document, "name")):
        return None
    gpus = document.get("gpus")
    gpus = gpus[:_GPUS_MAX] if isinstance(gpus, list) else []
    labels = document.get("labels")
    labels = labels if isinstance(labels, dict) else {}
    return NodeReport(
        name=name,
        rack=_text(document, "rack"),
        region=_text(document, "region"),
        labels={
            key[:_TEXT_MAX]: value[:_TEXT_MAX]
            for key, value in list(labels.items())[:_LABELS_MAX]
            if isinstance(value, str)
        },
        cpus=int(_number(document, "cpus")),
        memory_bytes=int(_number(document, "memory_bytes")),
        memory_free_bytes=int(_number(document, "memory_free_bytes")),
        gpus=tuple(_gpu(each, at) for at, each in enumerate(gpus) if isinstance(each, dict)),
        numa_nodes=int(_number(document, "numa_nodes")) or 1,
        nic_bytes_rate=_number(document, "nic_bytes_rate"),
        disk_bytes_rate=_number(document, "disk_bytes_rate"),
        memory_numa=_whole(document, "memory_numa"),
    )


def read_traffic(statistics: Document) -> TrafficReport:
    """Read what a worker's statistics say of what moves."""
    document = statistics.get("traffic")
    if not isinstance(document, dict) or not document:
        return NO_TRAFFIC
    return TrafficReport(
        from_workers=_counts(document, "from_workers"),
        from_origins=_counts(document, "from_origins"),
        sending=int(_number(document, "sending")),
        from_disk=int(_number(document, "from_disk")),
        queued_bytes=int(_number(document, "queued_bytes")),
        queued_reads_bytes=int(_number(document, "queued_reads_bytes")),
        awaited=tuple(_awaited(document)),
    )


def _gpu_document(gpu: Gpu) -> dict[str, Any]:  # Any: JSON
    document: dict[str, Any] = {  # Any: likewise
        "index": gpu.index,
        "model": gpu.model,
        "memory_bytes": gpu.memory_bytes,
        "numa": gpu.numa,
        "island": gpu.island,
        "used": round(gpu.used, 3),
    }
    if gpu.partitioned:
        document["mig"] = list(gpu.mig)
        document["mig_used"] = list(gpu.mig_used)
    if gpu.memory_free_bytes is not None:
        document["memory_free_bytes"] = gpu.memory_free_bytes
    return document


def _gpu(document: Document, at: int) -> Gpu:
    mig, mig_used = document.get("mig"), document.get("mig_used")
    index, free = _whole(document, "index"), _whole(document, "memory_free_bytes")
    return Gpu(
        index=at if index is None else index,
        model=_text(document, "model"),
        memory_bytes=int(_number(document, "memory_bytes")),
        numa=_whole(document, "numa") or 0,
        island=_whole(document, "island") or 0,
        mig=_texts(mig),
        mig_used=_texts(mig_used),
        partitioned=isinstance(mig, list),
        used=min(1.0, _number(document, "used")),
        memory_free_bytes=free,
    )


def _awaited(document: Document) -> Iterator[Awaited]:
    rows = document.get("awaited")
    for row in rows[:AWAITED_LIMIT] if isinstance(rows, list) else ():
        try:
            name, digits, seconds = row
            mask, wait = int(digits[:_MASK_DIGITS_MAX], 16), float(seconds)
            if isinstance(name, str) and mask > 0 and 0 <= wait < float("inf"):
                yield Awaited(FileVersionId(name), mask, wait)
        except (TypeError, ValueError):
            continue  # a worker of another version may say it otherwise


def _texts(value: object) -> tuple[str, ...]:
    return tuple(str(each)[:_TEXT_MAX] for each in value) if isinstance(value, list) else ()


def _counts(document: Document, name: str) -> dict[str, int]:
    counts = document.get(name)
    if not isinstance(counts, dict):
        return {}
    return {key: int(_number(counts, key)) for key in counts}


def _number(document: Document, name: str) -> float:
    value = document.get(name)
    fits = isinstance(value, int | float) and 0 <= value < float("inf")
    return float(value) if fits and value is not None else 0.0


def _whole(document: Document, name: str) -> int | None:
    value = document.get(name)
    return value if isinstance(value, int) and value >= 0 else None


def _text(document: Document, name: str) -> str:
    value = document.get(name)
    return value[:_TEXT_MAX] if isinstance(value, str) else ""
