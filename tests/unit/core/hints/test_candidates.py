"""Who may be chosen, and why another may not."""

import numpy as np

from cachefs.core.hints.asking import Question
from cachefs.core.hints.candidates import candidates, why_not
from cachefs.core.hints.estimate import Located, locate
from cachefs.core.hints.fleet import Fleet
from cachefs.core.hints.nodes import Node
from cachefs.core.hints.spread import Seen, Split, Spread


def _fleet() -> Fleet:
    fleet = Fleet()
    fleet.put(Node(name="n1", labels={"gpu": "h100"}), now=0.0)
    fleet.put(Node(name="n2", labels={"gpu": "h100", "tier": "a"}), now=0.0)
    fleet.put(Node(name="n3", schedulable=False), now=0.0)
    fleet.put(Node(name="n4"), now=0.0)
    fleet.remove("n4")
    return fleet


def _held_by(fleet: Fleet, *names: str) -> Located:
    nodes = {name: Seen(Split(nvme=1.0, origin=9.0)) for name in names}
    return locate(Spread(total=10, nodes=nodes, elsewhere=Seen(Split(origin=10.0))), fleet)


def _chosen(fleet: Fleet, question: Question, *required: Located) -> list[str]:
    return [fleet.names[row] for row in np.flatnonzero(candidates(fleet, question, required))]


def test_dead_nodes_and_those_that_take_no_work_are_none() -> None:
    fleet = _fleet()
    assert _chosen(fleet, Question()) == ["n1", "n2"]
    assert why_not(fleet, Question(), [], "n3") == "the node takes no new work"
    assert why_not(fleet, Question(), [], "n4") == "the node is not known"
    assert why_not(fleet, Question(), [], "n1") == ""


def test_named_candidates_are_all_there_are_and_unknown_names_are_no_error() -> None:
    assert _chosen(_fleet(), Question(candidates=("n2", "n9"))) == ["n2"]


def test_a_selector_wants_every_label() -> None:
    fleet, question = _fleet(), Question(selector={"gpu": "h100", "tier": "a"})
    assert _chosen(fleet, question) == ["n2"]
    assert why_not(fleet, question, [], "n1") == "it lacks the label tier=a"


def test_two_required_datasets_mean_and() -> None:
    fleet = _fleet()
    both = _held_by(fleet, "n1", "n2"), _held_by(fleet, "n2", "n3")
    assert _chosen(fleet, Question(), *both) == ["n2"]
    assert "required" in why_not(fleet, Question(), both, "n1")


def test_a_required_dataset_without_bytes_excludes_nobody() -> None:
    fleet = _fleet()
    assert _chosen(fleet, Question(), locate(Spread(total=0), fleet)) == ["n1", "n2"]


def test_a_node_that_awaits_a_required_dataset_is_a_candidate() -> None:
    fleet = _fleet()
    coming = Spread(
        total=5, nodes={"n1": Seen(Split(arriving=5.0), 2.0)}, elsewhere=Seen(Split(origin=5.0))
    )
    assert _chosen(fleet, Question(), locate(coming, fleet)) == ["n1"]
