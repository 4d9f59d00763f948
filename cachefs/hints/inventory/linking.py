"""Links: uplinks and origins with their rates, and who uses them now.

A *stream* is what one more job would compete with: one worker that fills from one origin, or from others. It
may have many blocks on their way at once, and so would the job.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from cachefs.config.schema import HintsConfig
from cachefs.core.datasets import OriginSpec
from cachefs.core.hints.estimate import Link, Links
from cachefs.core.hints.nodes import NEVER
from cachefs.core.hints.spreading import Place
from cachefs.core.names import WorkerId
from cachefs.hints.inventory.sources import Listing
from cachefs.wire.nodereports import TrafficReport

READER_BLOCKS = 4
"""Blocks that a reader fetches at once (``reader.connections_limit``): so many that are sent are a stream."""


def origin_name(origin: OriginSpec) -> str:
    """Return what the link to an origin is called: ``s3://bucket``, ``https://host``, ``hf``, ``file``."""
    parts = urlsplit(origin.url)
    is_shared = parts.scheme in ("hf", "file") or not parts.netloc
    return (parts.scheme or "file") if is_shared else f"{parts.scheme}://{parts.netloc}"


@dataclass(slots=True)
class Streams:
    """How many streams run over each part."""

    into: Counter[str] = field(default_factory=Counter)
    """By node."""
    out: Counter[str] = field(default_factory=Counter)
    disk: Counter[str] = field(default_factory=Counter)
    queued: Counter[str] = field(default_factory=Counter)
    """Bytes that reads wait for, by node."""
    racks: Counter[tuple[str, str]] = field(default_factory=Counter)
    zones: Counter[str] = field(default_factory=Counter)
    origins: Counter[str] = field(default_factory=Counter)


def count(
    traffic: Mapping[WorkerId, TrafficReport],
    places: Mapping[WorkerId, Place],
    origins: Mapping[str, str],
) -> Streams:
    """Count the streams that workers report.

    Args:
        traffic: What each says.
        places: Where each is.
        origins: The name of each dataset's origin.
    """
    streams = Streams()
    sending: Counter[str] = Counter()
    for worker, report in traffic.items():
        place = places.get(worker)
        if place is None:
            continue
        streams.into[place.node] += len(report.from_origins) + bool(report.from_workers)
        streams.queued[place.node] += report.queued_reads_bytes
        streams.disk[place.node] += -(-report.from_disk // READER_BLOCKS)
        sending[place.node] += -(-report.sending // READER_BLOCKS)
        for dataset in report.from_origins:
            streams.origins[origins.get(dataset, "")] += 1
            _cross(streams, place, None)
        for sender in report.from_workers:
            source = places.get(WorkerId(sender))
            if source is not None:
                streams.out[source.node] += 1
                _cross(streams, place, source)
    for node, running in sending.items():
        streams.out[node] = max(streams.out[node], running)
    return streams


def _cross(streams: Streams, to: Place, source: Place | None) -> None:
    """Count a stream on the uplinks that it passes over."""
    if source is not None and (source.zone, source.rack) == (to.zone, to.rack) and to.rack:
        return
    streams.racks[to.zone, to.rack] += 1
    if source is not None:
        streams.racks[source.zone, source.rack] += 1
    if source is None or source.zone != to.zone:
        streams.zones[to.zone] += 1
    if source is not None and source.zone != to.zone:
        streams.zones[source.zone] += 1


def links(
    config: HintsConfig,
    listings: Iterable[Listing],
    racks: Iterable[tuple[str, str]],
    origins: Iterable[str],
    streams: Streams,
) -> Links:
    """Return the links that have a limit.

    Args:
        config: Rates of what no listing speaks of.
        listings: Rates by name; the first that knows one wins.
        racks: All racks, by zone and rack. One without a name has no uplink of its own.
        origins: The names of all origins.
        streams: What runs over them.
    """
    known = list(listings)
    rack_rates, zone_rates, origin_rates = (
        {name: rate for listing in reversed(known) for name, rate in of(listing).items()}
        for of in (_racks, _zones, _origins)
    )
    places = set(racks)
    return Links(
        racks={
            place: Link(rate=rate, streams=streams.racks[place])
            for place in places
            if place[1] and (rate := rack_rates.get(place, config.rack_bytes_rate or NEVER)) < NEVER
        },
        zones={
            zone: Link(rate=rate, streams=streams.zones[zone])
            for zone in {zone for zone, _ in places}
            if (rate := zone_rates.get(zone, config.zone_bytes_rate or NEVER)) < NEVER
        },
        origins={
            name: Link(rate=rate, streams=streams.origins[name])
            for name in set(origins)
            if (rate := origin_rates.get(name, config.origin_bytes_rate or NEVER)) < NEVER
        },
    )


def _racks(listing: Listing) -> Mapping[tuple[str, str], float]:
    return listing.racks


def _zones(listing: Listing) -> Mapping[str, float]:
    return listing.zones


def _origins(listing: Listing) -> Mapping[str, float]:
    return listing.origins
