"""docs/HINTS.md says what is so: its example is reckoned, and what it tells people to copy is understood."""

import ast
import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from cachefs.core.hints.asking import Affinity, LoaderMode
from cachefs.core.hints.estimate import Link, Links, estimate, locate
from cachefs.core.hints.fleet import Fleet
from cachefs.core.hints.nodes import Node
from cachefs.core.hints.scoring import hundredths, tenths
from cachefs.core.hints.spread import Seen, Split, Spread
from cachefs.hints.consumers import routers
from cachefs.hints.consumers.kueue import CONTROLLER
from cachefs.hints.consumers.pods import question_of
from tests.unit.hints.consumers.schedulers import Knowing

DOCUMENT = Path(__file__).parents[3] / "docs" / "HINTS.md"
TEXT = DOCUMENT.read_text()
GB = 1e9


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.DOTALL)


def example():
    """Return the names of the example's nodes and their estimate."""
    fleet = Fleet()
    for name, zone, rack in (
        ("n1", "a", "r1"),
        ("n2", "a", "r2"),
        ("n3", "a", "r1"),
        ("n4", "b", ""),
    ):
        fleet.put(Node(name=name, zone=zone, rack=rack), now=0.0)
    spread = Spread(
        total=60 * GB,
        nodes={
            "n1": Seen(Split(nvme=60 * GB)),
            "n2": Seen(Split(nvme=40 * GB, arriving=20 * GB), 6.0),
        },
        racks={("a", "r1"): Seen(Split(peer_rack=60 * GB))},
        elsewhere=Seen(Split(peer_remote=60 * GB)),
    )
    links = Links(zones={"b": Link(rate=10e9 / 8, streams=3)})
    slot = np.array([90.0, 0.0, 0.0, 0.0])
    return fleet.names, estimate(fleet, locate(spread, fleet), links, slot=slot, init=4.0)


def test_the_example_is_reckoned_as_it_is_told():
    names, reckoned = example()
    scores = zip(tenths(reckoned.ready).tolist(), hundredths(reckoned.ready).tolist(), strict=True)
    expected = {}
    for row, (name, (coarse, fine)) in enumerate(zip(names, scores, strict=True)):
        parts = reckoned.breakdown(row, name, ("b" if name == "n4" else "a", ""))
        ready = f"{reckoned.ready[row]:.1f} s"
        expected[name] = (ready, parts.bottleneck, str(coarse), str(round(fine)))
    rows = re.findall(
        r"^\| (n\d) \|.*\*\*(.*?)\*\* \| `(.*?)` \| (\d+) \| (\d+) \|$", TEXT, flags=re.MULTILINE
    )
    assert {name: tuple(told) for name, *told in rows} == expected
    assert [name for name, *_ in rows] == [names[row] for row in np.argsort(reckoned.ready)]


def test_the_pod_of_the_document_is_understood():
    (written,) = [block for block in blocks("yaml") if "cachefs.io/datasets" in block]
    asked = question_of(yaml.safe_load(written))
    assert asked is not None
    assert [(str(each.dataset), each.affinity, each.weight) for each in asked.readings] == [
        ("llama-70b", Affinity.REQUIRED, 1.0),
        ("team-a/tokens", Affinity.PREFERRED, 0.2),
    ]
    assert (asked.deadline_seconds, asked.expected_seconds) == (60.0, 7200.0)
    assert (asked.loader.mode, asked.loader.required_fraction) == (LoaderMode.LAZY, 0.1)


@pytest.mark.parametrize("block", blocks("yaml"))
def test_what_is_to_be_copied_is_yaml(block):
    assert all(list(yaml.safe_load_all(block)))


def test_what_is_to_be_copied_is_python():
    for block in blocks("python"):
        ast.parse(block)


def test_schedulers_are_told_to_call_what_there_is():
    paths = {route.path for router in routers(Knowing(), lambda: 0.0) for route in router.routes}
    extender = next(each for each in map(yaml.safe_load, blocks("yaml")) if "extenders" in each)
    (told,) = extender["extenders"]
    prefix = told["urlPrefix"].partition(":7070")[2]
    assert {f"{prefix}/{told['filterVerb']}", f"{prefix}/{told['prioritizeVerb']}"} <= paths
    for verb in re.findall(r"extender\.(?:prioritize|jobEnqueueable)Verb: \"?(\w+)", TEXT):
        assert f"/volcano/{verb}" in paths
    assert "/k8s/mutate" in paths
    assert f"path: {'/k8s/mutate'}" in TEXT
    assert f"controllerName: {CONTROLLER}" in TEXT
