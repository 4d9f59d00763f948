"""Labels of Fluid: what they assign, and what that is worth."""

import pytest

from cachefs.core.hints.nodes import Node
from cachefs.core.names import DatasetName
from cachefs.hints.inventory.fluid import Assigned, Labelled, assigned, credit

LLAMA = DatasetName("team", "llama")
LONG = DatasetName("a-namespace-with-a-long-name", "a-dataset-whose-name-is-long")
UID = "6f9a2c54-7c1e-4f0a-9a7e-1f2d3c4b5a69"
MIB = 1 << 20


@pytest.mark.parametrize(
    "labels",
    [
        {"fluid.io/s-team-llama": "true"},
        {"fluid.io/s-alluxio-team-llama": "true"},
        {"fluid.io/s-juicefs-team-llama": "true", "pool": "x"},
    ],
)
def test_a_label_of_a_dataset_assigns_it(labels):
    assert assigned(labels, LLAMA) == Assigned()


@pytest.mark.parametrize(
    "labels",
    [
        {},
        {"fluid.io/s-team-llama": "false"},
        {"fluid.io/s-team-llama2": "true"},
        {"fluid.io/s-other-llama": "true"},
        {"fluid.io/f-team-llama": "true"},
        {"fluid.io/dataset-num": "1"},
        {f"fluid.io/s-{UID}": "true"},
    ],
)
def test_other_labels_do_not(labels):
    assert assigned(labels, LLAMA) is None


def test_labels_of_capacity_say_how_much_of_what():
    labels = {
        "fluid.io/s-h-alluxio-m-team-llama": "2MiB",
        "fluid.io/s-h-alluxio-d-team-llama": "6MiB",
        "fluid.io/s-h-alluxio-t-team-llama": "8MiB",
    }
    assert assigned(labels, LLAMA) == Assigned(2 * MIB, 6 * MIB, is_sized=True)


def test_a_total_alone_is_taken_for_disk():
    labels = {"fluid.io/s-h-jindo-t-team-llama": "8MiB", "fluid.io/s-h-jindo-m-team-llama": "3MiB"}
    assert assigned(labels, LLAMA) == Assigned(3 * MIB, 5 * MIB, is_sized=True)


def test_a_capacity_that_cannot_be_read_is_none():
    labels = {"fluid.io/s-h-jindo-d-team-llama": "plenty"}
    assert assigned(labels, LLAMA) == Assigned(is_sized=True)


def test_a_key_that_would_be_too_long_has_the_uid():
    plain = f"fluid.io/s-{LONG.namespace}-{LONG.name}"
    assert len(plain) >= 63
    assert assigned({f"fluid.io/s-{UID}": "true"}, LONG, UID) == Assigned()
    assert assigned({plain: "true"}, LONG, UID) is None
    assert assigned({f"fluid.io/s-h-alluxio-d-{UID}": "1MiB"}, LONG, UID) == Assigned(
        0, MIB, is_sized=True
    )


def test_each_key_is_long_or_short_for_itself():
    # Without a runtime the key has 62 characters, with one it has more.
    dataset = DatasetName("n" * 25, "d" * 25)
    assert assigned({f"fluid.io/s-{dataset.namespace}-{dataset.name}": "true"}, dataset, UID)
    assert assigned({f"fluid.io/s-alluxio-{UID}": "true"}, dataset, UID)


def test_the_nodes_of_a_dataset_are_found_without_asking_each():
    labelled = Labelled(
        [
            Node(name="n1", zone="a", rack="r", labels={"fluid.io/s-team-llama": "true", "x": "y"}),
            Node(name="n2", labels={"fluid.io/s-h-alluxio-m-team-llama": "1MiB"}),
            Node(name="n3", labels={"fluid.io/s-team-other": "true"}),
            Node(name="n4", labels={"pool": "x"}),
        ]
    )
    found = labelled.assigned(LLAMA)
    assert found == {"n1": Assigned(), "n2": Assigned(MIB, 0, is_sized=True)}
    assert labelled.places == {"n1": ("a", "r"), "n2": ("", ""), "n3": ("", "")}


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        (Assigned(), (0, 100)),
        (Assigned(30, 0, is_sized=True), (30, 0)),
        (Assigned(30, 500, is_sized=True), (30, 70)),
        (Assigned(500, 500, is_sized=True), (100, 0)),
        (Assigned(is_sized=True), (0, 0)),
    ],
)
def test_an_assignment_is_worth_a_share_and_no_more_than_it_has_room_for(known, expected):
    assert credit(known, 1000, 0.1) == expected
