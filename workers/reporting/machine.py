"""The machine, as its kernel shows it: processors, memory, NUMA nodes, and how fast its network is.

A link's speed is what its card says. One that says nothing (a virtual card, a tunnel) is not known, and then
neither is what the node can receive, unless it is configured. Of several cards the one counts that has the
worker's address; else the fastest that is up and is a device.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

_MEGABIT = 1_000_000 / 8


@dataclass(frozen=True, slots=True)
class Card:
    """A network card."""

    name: str
    bytes_rate: float
    """0 if it does not say."""


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0))


def memory_bytes() -> tuple[int, int]:
    """Return the machine's memory, and what of it programs could still have."""
    memory = psutil.virtual_memory()
    return int(memory.total), int(memory.available)


def numa_nodes(folder: Path = Path("/sys/devices/system/node")) -> int:
    """Return how many NUMA nodes there are; 1 where the kernel does not say."""
    with suppress(OSError):
        names = (path.name for path in folder.iterdir())
        count = sum(name.startswith("node") and name[4:].isdecimal() for name in names)
        return max(1, count)
    return 1


def memory_numa(tier: Path, mounts: Path = Path("/proc/self/mountinfo")) -> int | None:
    """Return the NUMA node that a tmpfs is bound to by its mount options; ``None`` if to none.

    Without such an option its pages are wherever they were written from.
    """
    best: tuple[int, int | None] = (-1, None)
    with suppress(OSError):
        resolved = tier.resolve()
        for mountpoint, kind, options in _mounts(mounts.read_text()):
            if kind == "tmpfs" and resolved.is_relative_to(mountpoint):
                best = max(best, (len(mountpoint.parts), _bound_to(options)), key=lambda at: at[0])
    return best[1]


def _mounts(text: str) -> Iterator[tuple[Path, str, list[str]]]:
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        fields, rest = before.split(), after.split()
        if len(fields) > 4 and len(rest) > 2:
            folder = fields[4].encode().decode("unicode_escape")
            yield Path(folder), rest[0], rest[2].split(",")


def _bound_to(options: list[str]) -> int | None:
    for option in options:
        name, _, policy = option.partition("=")
        mode, _, nodes = policy.partition(":")
        if name == "mpol" and mode.partition("=")[0] in ("bind", "prefer") and nodes.isdecimal():
            return int(nodes)
    return None


def find_card(host: str, folder: Path = Path("/sys/class/net")) -> Card | None:
    """Return the card that an address is on, or else the fastest one; ``None`` if there is none."""
    try:
        names = sorted(path.name for path in folder.iterdir() if path.name != "lo")
    except OSError:
        return None
    addresses = psutil.net_if_addrs()
    for name in names:
        if any(each.address == host for each in addresses.get(name, ())):
            return _card(folder / name)
    # Bridges, tunnels and bonds carry what the cards beneath them carry.
    devices = [name for name in names if (folder / name / "device").exists()]
    up = [name for name in devices if _read(folder / name / "operstate") in ("up", "unknown")]
    cards = [_card(folder / name) for name in up]
    return max(cards, key=lambda card: card.bytes_rate, default=None)


def _card(folder: Path) -> Card:
    speed = _number(folder / "speed") or 0
    return Card(folder.name, max(0, speed) * _MEGABIT)


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    with suppress(ValueError):
        return int(_read(path))
    return None
