"""Facts: several who speak of one node."""

from cachefs.core.hints.nodes import Gpu, Node, Rates
from cachefs.hints.inventory.facts import Facts, merged, reported
from cachefs.wire.nodereports import NodeReport


def test_who_comes_first_is_believed_first():
    one = Facts(name="n", rack="r1", rates={"nic": 1.0}, labels={"a": "1"}, schedulable=False)
    other = Facts(
        name="n",
        rack="r2",
        zone="z",
        rates={"nic": 2.0, "disk": 3.0},
        labels={"a": "2", "b": "2"},
        schedulable=True,
    )
    node = merged("n", [one, other])
    assert (node.rack, node.zone, node.schedulable) == ("r1", "z", False)
    assert node.rates == Rates(nic=1.0, disk=3.0)
    assert node.labels == {"a": "1", "b": "2"}


def test_images_are_those_of_all():
    one, other = (Facts(name="n", images=frozenset({image})) for image in "ab")
    assert merged("n", [one, other]).images == {"a", "b"}
    assert merged("n", [Facts(name="n")]).images is None
    assert merged("n", [Facts(name="n", images=frozenset()), Facts(name="n")]).images == frozenset()


def test_no_accelerators_are_something_to_say_and_nothing_said_is_not():
    gpus = (Gpu(index=0),)
    assert merged("n", [Facts(name="n", gpus=()), Facts(name="n", gpus=gpus)]).gpus == ()
    assert merged("n", [Facts(name="n"), Facts(name="n", gpus=gpus)]).gpus == gpus


def test_of_whom_nothing_is_known_is_a_common_server():
    assert merged("n", []) == Node(name="n")


def test_what_a_worker_has_not_found_out_it_does_not_say():
    facts = reported(NodeReport(name="n"), zone="")
    assert facts == Facts(name="n")
    told = reported(NodeReport(name="n", rack="r", nic_bytes_rate=5.0), zone="z")
    assert (told.rack, told.zone, told.rates) == ("r", "z", {"nic": 5.0})
