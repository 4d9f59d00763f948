"""The estimate: seconds until a job is ready, for every node of the fleet at once.

For a job on node *n*::

    ready(n) = max(slot(n), image(n), data(n)) + load(n) + init

*Data.* The wanted bytes are split by their nearest copy (:mod:`.spread`). Each kind of copy passes
over some of these parts: the node's disk, its memory, its link between NUMA nodes, its network card,
the uplinks of its rack and its zone, the cards of the peers that send, the origin's link. A part with
capacity *C* and learned efficiency *e* that *k* others use gives us ``C·e / (k + 1)``; what has been
promised on it before us comes first::

    pipelined:  data = max over parts of (queued + bytes over this part) / share
    serial:     data = sum over kinds of  bytes of this kind / least share on its way
                       + max over parts of  queued / share

Bytes that are on their way already are charged to nobody again: they bound the time from below.
The form is that of ServerlessLLM's loading-time estimator (queue + bytes / bandwidth), widened by
partial copies, peers, shared links and transfers in flight.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cachefs.core.hints.answer import Breakdown
from cachefs.core.hints.asking import Loader, LoaderMode
from cachefs.core.hints.fleet import Column, Fleet
from cachefs.core.hints.nodes import NEVER
from cachefs.core.hints.spread import Seen, Split, Spread

KINDS = Split._fields
"""The kinds of copies, nearest first."""

_HELD = slice(KINDS.index("gpu"), KINDS.index("nvme") + 1)
"""The kinds of copies that a node holds itself."""

_PASSES: Mapping[str, tuple[str, ...]] = {
    "gpu": (),
    "dram": ("memory",),
    "dram_far": ("memory", "numa"),
    "nvme": ("disk",),
    "arriving": (),
    "peer_rack": ("nic", "peers"),
    "peer_zone": ("nic", "peers", "rack"),
    "peer_remote": ("nic", "peers", "rack", "zone"),
    "origin": ("nic", "rack", "zone", "origin"),
}
"""Which parts the bytes of a kind pass over on their way into the node's memory."""

_SECONDS_BY_FILE = 0.0005
"""What a file costs besides its bytes: looking it up and opening it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A part that many nodes share: an uplink, or an origin's."""

    rate: float = NEVER
    """Bytes per second, its learned efficiency included; without a limit by default."""
    streams: float = 0.0
    """Transfers that use it."""
    queued: float = 0.0
    """Bytes that were promised before us."""

    @property
    def share(self) -> float:
        """What one more transfer gets, in bytes per second."""
        return self.rate / (self.streams + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """The parts that many nodes share; one that is not listed limits nothing."""

    racks: Mapping[tuple[str, str], Link] = field(default_factory=dict)
    """Uplinks, by zone and rack."""
    zones: Mapping[str, Link] = field(default_factory=dict)
    origins: Mapping[str, Link] = field(default_factory=dict)
    """By the origin's name in a spread."""
    peers: float = 1.0
    """The learned efficiency of peers that send side by side."""


@dataclass(frozen=True, slots=True)
class Located:
    """The bytes that a job wants, by kind of copy and node: a row a node."""

    kinds: Column
    """Shape ``(len(KINDS), nodes)``, bytes."""
    arriving: Column
    """Seconds until what is on its way is there."""
    origins: Mapping[str, Column]
    """The bytes of each origin, by node."""

    def scaled(self, factor: float) -> "Located":
        """Return so many times the bytes, at the same places; what is on its way takes as long."""
        origins = {name: column * factor for name, column in self.origins.items()}
        return replace(self, kinds=self.kinds * factor, origins=origins)

    def seen(self, row: int) -> Seen:
        """Return one node's row."""
        return Seen(Split(*self.kinds[:, row].tolist()), float(self.arriving[row]))


def locate(spread: Spread, fleet: Fleet) -> Located:
    """Make columns of a spread."""
    count = len(fleet)
    kinds = np.empty((len(KINDS), count))
    arriving = np.full(count, spread.elsewhere.arriving_seconds)
    kinds[:] = np.array(spread.elsewhere.split)[:, None]
    if spread.zones:
        zone = fleet.column("zone")
        for name, seen in spread.zones.items():
            _fill(kinds, arriving, zone == fleet.zones.get(name, -1), seen)
    if spread.racks:
        rack = fleet.column("rack")
        for place, seen in spread.racks.items():
            _fill(kinds, arriving, rack == fleet.racks.get(place, -1), seen)
    for name, seen in spread.nodes.items():
        row = fleet.row(name)
        if row is not None:
            kinds[:, row] = seen.split
            arriving[row] = seen.arriving_seconds
    return Located(kinds, arriving, {spread.origin: kinds[-1].copy()})


def together(located: list[Located], fleet: Fleet) -> Located:
    """Add up what a job wants of several datasets."""
    if len(located) == 1:
        return located[0]
    kinds = np.zeros((len(KINDS), len(fleet)))
    arriving = np.zeros(len(fleet))
    origins: dict[str, Column] = {}
    for one in located:
        kinds += one.kinds
        np.maximum(arriving, one.arriving, out=arriving)
        for origin, column in one.origins.items():
            origins[origin] = origins.get(origin, 0.0) + column
    return Located(kinds, arriving, origins)


@dataclass(frozen=True, slots=True)
class Estimate:
    """The seconds, a row a node. Rows of nodes that are not there have numbers without a meaning."""

    slot: Column
    image: Column
    data: Column
    load: Column
    init: Column
    """Nothing where all bytes are in the accelerator: the program that holds them there runs already."""
    ready: Column
    parts: Mapping[str, Column]
    """Seconds of each part, were it alone: what the bottleneck is chosen from."""
    overhead: Column
    """Seconds that come on top of whatever is slowest: files to open."""
    located: Located

    def breakdown(self, row: int, name: str, place: tuple[str, str]) -> Breakdown:
        """Return one row, with what it waits for.

        Args:
            row: Of the node.
            name: The node's.
            place: Its zone and rack.
        """
        slot, image, data = (float(each[row]) for each in (self.slot, self.image, self.data))
        load, init = float(self.load[row]), float(self.init[row])
        longest = max(slot, image, data, load, init)
        if longest == slot and slot > 0:
            bottleneck = f"slot:{name}"
        elif longest == image and image > 0:
            bottleneck = f"image:{name}"
        elif longest == data and data > 0:
            bottleneck = self._slowest(row, name, place)
        else:
            bottleneck = f"load:{name}" if longest == load and load > 0 else "init"
        return Breakdown(slot, image, data, load, init, bottleneck)

    def _slowest(self, row: int, name: str, place: tuple[str, str]) -> str:
        part = max(self.parts, key=lambda each: float(self.parts[each][row]))
        if part == "rack":
            return f"rack:{'/'.join(filter(None, place))}"
        if part == "zone":
            return f"zone:{place[0]}"
        if part == "peers" or part.startswith("origin:"):
            return part.removesuffix(":")
        return f"{'nvme' if part == 'disk' else part}:{name}"


def estimate(
    fleet: Fleet,
    located: Located,
    links: Links,
    *,
    slot: Column,
    loader: Loader | None = None,
    image: Column | None = None,
    init: float = 0.0,
    files: int = 0,
) -> Estimate:
    """Estimate every node.

    Args:
        fleet: The nodes.
        located: What is to be read, from :func:`locate`.
        links: What they share.
        slot: Seconds until a member could start there; infinite where none ever can.
        loader: How the job reads.
        image: Seconds until the container image is there; none for ``None``.
        init: What a program does besides when it starts, in seconds.
        files: How many are read.
    """
    loader = loader or Loader()
    wanted = located.kinds * loader.fraction
    shares = _shares(fleet, links, located)
    parts = _seconds_by_part(links, wanted, shares, located, loader.fraction)
    if loader.mode is LoaderMode.SERIAL:
        data = _one_after_the_other(links, wanted, shares, located, loader.fraction)
        np.maximum(data, parts["arriving"], out=data)
    else:
        data = np.maximum.reduce(list(parts.values()))
    overhead = np.full(len(fleet), files * _SECONDS_BY_FILE)
    data = data + overhead
    whole = wanted.sum(axis=0)
    load = (whole - wanted[0]) / (fleet.column("load") * fleet.column("efficiency_load"))
    starts = np.where((whole > 0) & (wanted[0] >= whole), 0.0, init)
    image = np.zeros(len(fleet)) if image is None else image
    ready = np.maximum.reduce([slot, image, data]) + load + starts
    return Estimate(slot, image, data, load, starts, ready, parts, overhead, located)


def _fill(kinds: Column, arriving: Column, where: NDArray[np.bool_], seen: Seen) -> None:
    kinds[:, where] = np.array(seen.split)[:, None]
    arriving[where] = seen.arriving_seconds


class _Share(NamedTuple):
    """What a part gives us."""

    rate: Column
    """Bytes per second."""
    queued: Column | float = 0.0
    """Bytes that come first, for whoever uses the part at all."""


def _shares(fleet: Fleet, links: Links, located: Located) -> dict[str, _Share]:
    """Return what each part gives us, but for the origins."""

    def own(part: str, streams: str) -> Column:
        whole = fleet.column(part) * fleet.column(f"efficiency_{part}")
        share: Column = whole / (fleet.column(streams) + 1)
        return share

    rack, zone = fleet.column("rack"), fleet.column("zone")
    uplinks = _uplinks(links.racks, fleet.racks), _uplinks(links.zones, fleet.zones)
    return {
        "memory": _Share(fleet.column("memory") * fleet.column("efficiency_memory")),
        "numa": _Share(fleet.column("numa") * fleet.column("efficiency_numa")),
        "disk": _Share(own("disk", "streams_disk"), fleet.column("queued_disk")),
        "nic": _Share(own("nic", "streams_in"), fleet.column("queued_in")),
        "peers": _Share(_sending(fleet, located, own("nic", "streams_out")) * links.peers),
        "rack": _Share(uplinks[0].rate[rack], uplinks[0].queued[rack]),
        "zone": _Share(uplinks[1].rate[zone], uplinks[1].queued[zone]),
    }


def _sending(fleet: Fleet, located: Located, card: Column) -> Column:
    """Return what peers send to each node together, in bytes per second.

    They send side by side, each in proportion to what it holds, until the last has sent its part: so
    one that holds much behind a slow card slows all down. Who only awaits bytes is not among them; if
    nobody else is, peers are as fast as the fleet's average.
    """
    alive = fleet.column("alive")
    if not alive.any():
        return np.full(len(fleet), NEVER)
    held = np.where(alive, located.kinds[_HELD].sum(axis=0), 0.0)
    seconds = held / card
    slowest = int(seconds.argmax())
    longest = np.full(len(fleet), seconds[slowest])
    longest[slowest] = np.delete(seconds, slowest).max(initial=0.0)
    average = np.full(len(fleet), card[alive].mean())
    rate: Column = np.divide(held.sum() - held, longest, out=average, where=longest > 0)
    return rate


class _Uplinks(NamedTuple):
    rate: Column
    queued: Column


def _uplinks(links: Mapping[Any, Link], numbers: Mapping[Any, int]) -> _Uplinks:
    """Return the shares of all racks or zones, by number."""
    rate, queued = np.full(len(numbers) or 1, NEVER), np.zeros(len(numbers) or 1)
    for place, link in links.items():
        number = numbers.get(place)
        if number is not None:
            rate[number], queued[number] = link.share, link.queued
    return _Uplinks(rate, queued)


def _seconds_by_part(
    links: Links, wanted: Column, shares: Mapping[str, _Share], located: Located, fraction: float
) -> dict[str, Column]:
    seconds: dict[str, Column] = {}
    for part, share in shares.items():
        over = np.zeros(wanted.shape[1])
        for kind, way in _PASSES.items():
            if part in way:
                over += wanted[KINDS.index(kind)]
        seconds[part] = np.where(over > 0, over + share.queued, 0.0) / share.rate
    for name, column in located.origins.items():
        link = links.origins.get(name, Link())
        over = np.where(column > 0, column * fraction + link.queued, 0.0)
        seconds[f"origin:{name}"] = over / link.share
    seconds["arriving"] = located.arriving
    return seconds


def _one_after_the_other(
    links: Links, wanted: Column, shares: Mapping[str, _Share], located: Located, fraction: float
) -> Column:
    data, queued = np.zeros(wanted.shape[1]), np.zeros(wanted.shape[1])
    for kind, way in _PASSES.items():
        over = wanted[KINDS.index(kind)]
        if way and kind != "origin":
            data += over / _slowest_rate(shares, way)
        for part in way:
            if part in shares:  # queues become shorter side by side, whichever we come to first
                before = np.where(over > 0, shares[part].queued, 0.0) / shares[part].rate
                np.maximum(queued, before, out=queued)
    to_here = _slowest_rate(shares, tuple(part for part in _PASSES["origin"] if part != "origin"))
    for name, column in located.origins.items():
        link = links.origins.get(name, Link())
        data += column * fraction / np.minimum(to_here, link.share)
        np.maximum(queued, np.where(column > 0, link.queued / link.share, 0.0), out=queued)
    return data + queued


def _slowest_rate(shares: Mapping[str, _Share], way: tuple[str, ...]) -> Column:
    least: Column = np.minimum.reduce([shares[part].rate for part in way])
    return least
