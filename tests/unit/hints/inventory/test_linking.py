"""Links: who uses them, and how fast they are."""

import pytest

from cachefs.config.schema import HintsConfig
from cachefs.core.datasets import OriginSpec
from cachefs.core.hints.estimate import Link
from cachefs.core.hints.spreading import Place
from cachefs.hints.inventory.linking import Streams, count, links, origin_name
from cachefs.hints.inventory.sources import Listing
from cachefs.wire.nodereports import TrafficReport

PLACES = {
    "w1": Place("n1", "r1", "a"),
    "w1b": Place("n1", "r1", "a"),
    "w2": Place("n2", "r1", "a"),
    "w3": Place("n3", "r2", "a"),
    "w4": Place("n4", "r1", "b"),
}


def counted(**traffic):
    return count(traffic, PLACES, {"model": "s3://models"})


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("s3://bucket/prefix", "s3://bucket"),
        ("gs://bucket", "gs://bucket"),
        ("https://host:8080/models/x", "https://host:8080"),
        ("hf://org/repo@main", "hf"),
        ("file:///data/models", "file"),
        ("/data/models", "file"),
    ],
)
def test_an_origin_is_called_by_what_its_readers_share(url, name):
    assert origin_name(OriginSpec(url)) == name


def test_a_worker_that_fills_from_an_origin_is_one_stream_however_many_blocks_it_has():
    streams = counted(w1=TrafficReport(from_origins={"model": 8}))
    assert streams.into["n1"] == 1
    assert streams.origins["s3://models"] == 1
    assert (streams.racks["a", "r1"], streams.zones["a"]) == (1, 1)


def test_a_worker_that_fills_from_others_uses_their_cards_and_the_uplinks_between():
    streams = counted(w1=TrafficReport(from_workers={"w2": 2, "w3": 1, "w4": 5}))
    assert streams.into["n1"] == 1
    assert (streams.out["n2"], streams.out["n3"], streams.out["n4"]) == (1, 1, 1)
    # From n2 nothing leaves the rack; from n3 and n4 it does, and from n4 the zone.
    assert (streams.racks["a", "r1"], streams.racks["a", "r2"]) == (2, 1)
    assert streams.racks["b", "r1"] == 1
    assert (streams.zones["a"], streams.zones["b"]) == (1, 1)


def test_workers_of_one_node_add_up():
    streams = counted(
        w1=TrafficReport(from_origins={"model": 1}, queued_reads_bytes=10),
        w1b=TrafficReport(from_origins={"model": 1}, queued_reads_bytes=5),
    )
    assert (streams.into["n1"], streams.queued["n1"]) == (2, 15)
    assert streams.origins["s3://models"] == 2


def test_blocks_for_readers_count_as_streams_of_four_and_fills_of_others_are_not_counted_twice():
    streams = counted(
        w2=TrafficReport(sending=5, from_disk=4), w1=TrafficReport(from_workers={"w2": 1})
    )
    assert (streams.out["n2"], streams.disk["n2"]) == (2, 1)


def test_who_is_nowhere_uses_nothing():
    streams = counted(gone=TrafficReport(from_origins={"model": 1}), w1=TrafficReport())
    assert not +streams.into
    assert counted(w1=TrafficReport(from_workers={"gone": 1})).into["n1"] == 1


def test_only_what_has_a_limit_is_listed():
    none = links(HintsConfig(), [], [("a", "r1")], ["s3://models"], Streams())
    assert (none.racks, none.zones, none.origins) == ({}, {}, {})


def test_rates_are_those_of_the_first_listing_that_has_one_and_else_configured():
    config = HintsConfig(rack_bytes_rate=5.0, zone_bytes_rate=6.0, origin_bytes_rate=7.0)
    listings = [Listing(racks={("a", "r1"): 1.0}), Listing(racks={("a", "r1"): 2.0})]
    streams = counted(w1=TrafficReport(from_origins={"model": 1}))
    found = links(config, listings, [("a", "r1"), ("a", "r2"), ("a", "")], ["s3://models"], streams)
    assert found.racks == {
        ("a", "r1"): Link(rate=1.0, streams=1),
        ("a", "r2"): Link(rate=5.0, streams=0),
    }
    assert found.zones == {"a": Link(rate=6.0, streams=1)}
    assert found.origins == {"s3://models": Link(rate=7.0, streams=1)}
