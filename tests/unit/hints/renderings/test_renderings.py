"""What the renderings have in common, and what each does at its edges."""

import dataclasses
import json

import pytest

from cachefs.core.hints.answer import Action, Hint
from cachefs.core.hints.spread import Split
from cachefs.core.names import DatasetName
from cachefs.hints.renderings import RENDERINGS
from cachefs.hints.renderings.affinity import PREFERRED, hostname_expression, node_affinity
from cachefs.hints.renderings.extender import encoded, priorities, scores_of
from cachefs.hints.renderings.holding import seconds_missing, should_wait
from cachefs.hints.renderings.kai import kai
from cachefs.hints.renderings.kueue import PodSet, check_status
from cachefs.hints.renderings.nomad import nomad
from cachefs.hints.renderings.ray import ray
from cachefs.hints.renderings.scales import TERMS_MAX
from cachefs.hints.renderings.slurm import NodeFeatures, feature, parse_nodes, slurm, updates
from cachefs.hints.renderings.volcano import node_scores
from tests.unit.hints.making import COMING, GANG, NOTHING, THREE, gang_of, hint, node, question

LLAMA = DatasetName("default", "llama")


@pytest.mark.parametrize("name", RENDERINGS)
def test_a_rendering_of_no_opinion_about_nobody_is_json(name):
    empty = Hint(id="h", generated_at=0.0, valid_until=0.0, epoch=0)
    assert json.dumps(RENDERINGS[name](empty, question("llama")))


def many(count: int) -> Hint:
    return hint(*(node(f"n{index:02}", 3.0 + index / 4) for index in range(count)))


def test_at_most_32_nodes_are_named_one_by_one_the_best_ones():
    terms = node_affinity(many(80), question("llama"))[PREFERRED]
    assert len(terms) == TERMS_MAX == 32
    named = [term["preference"]["matchFields"][0]["values"] for term in terms]
    assert named == [[f"n{index:02}"] for index in range(32)]
    assert terms[0]["weight"] == 100
    assert all(1 <= term["weight"] <= 100 for term in terms)


def test_a_gangs_nodes_weigh_more_than_any_other():
    told = hint(node("n1", 3.0), node("n2", 20.0), node("n3", 9.0), gang=gang_of("n2", "n2"))
    terms = node_affinity(told, question("llama", members=2))[PREFERRED]
    weights = [(term["preference"]["matchFields"][0]["values"], term["weight"]) for term in terms]
    assert weights == [(["n2"], 100), (["n1"], 50), (["n3"], 27)]


def test_a_node_whose_weight_would_be_nothing_is_not_named():
    terms = node_affinity(hint(node("n1", 1.0), node("n2", 500.0)), question("llama"))[PREFERRED]
    assert [term["preference"]["matchFields"][0]["values"] for term in terms] == [["n1"]]


def test_nodes_that_are_equal_to_all_others_beyond_the_limit_are_not_preferred_to_them():
    listed = [node(f"n{index}", 5.0) for index in range(3)]
    alike = hint(*listed, seconds={f"n{index}": 5.0 for index in range(100)})
    better = hint(*listed, seconds={"n0": 5.0, "n1": 5.0, "n2": 5.0, "n3": 90.0})
    assert node_affinity(alike, question("llama")) == {}
    assert len(node_affinity(better, question("llama"))[PREFERRED]) == 3


def test_a_hostname_may_differ_from_the_nodes_name():
    expression = hostname_expression(["n2", "n1"], lambda name: f"{name}.example")
    assert expression["values"] == ["n1.example", "n2.example"]


def test_the_extender_tells_1_second_from_3_but_not_300_from_310():
    quick = priorities(hint(node("n1", 1.0), node("n2", 3.0)), ["n1", "n2"])
    slow = priorities(hint(node("n1", 300.0), node("n2", 310.0)), ["n1", "n2"])
    assert quick[0]["Score"] > quick[1]["Score"]
    assert slow[0]["Score"] == slow[1]["Score"]


def test_a_node_of_which_nothing_is_known_scores_lowest_with_the_extender():
    scored = priorities(hint(node("n1", 5.0), node("n2", 5.0)), ["n2", "stranger", "n1"])
    assert scored == [
        {"Host": "n2", "Score": 10},
        {"Host": "stranger", "Score": 0},
        {"Host": "n1", "Score": 10},
    ]


def test_scores_are_whole_and_of_0_to_10():
    scored = priorities(many(200), [f"n{index:02}" for index in range(200)])
    assert {type(each["Score"]) for each in scored} == {int}
    assert {each["Score"] for each in scored} <= set(range(11))
    assert {0, 10} & {each["Score"] for each in scored}


def test_scores_are_encoded_as_json_whatever_a_name_is():
    names = ["n1", 'a"quote\\', "ünï\u2028\n\ud800", ""]
    told = hint(node("n1", 5.0), node('a"quote\\', 50.0))
    assert json.loads(encoded(scores_of(told, names), names)) == priorities(told, names)
    assert encoded({}, []) == b"[]"


def test_every_candidate_counts_not_only_those_within_the_limit():
    told = hint(node("n1", 5.0), seconds={"n1": 5.0, "n2": 8.0, "n3": 200.0})
    assert [each["Score"] for each in priorities(told, ["n1", "n2", "n3"])] == [10, 9, 1]
    assert node_scores(told, ["n3", "n2"])["nodeScore"] == {"n3": 0.0, "n2": 74.08}


def test_volcanos_scores_take_its_weight():
    assert node_scores(THREE, ["n1", "n2"], weight=10)["nodeScore"] == {"n1": 1000.0, "n2": 406.6}


def test_kai_leaves_out_nodes_whose_name_cannot_be_a_label():
    long = "n" * 64
    rendered = kai(hint(node(long, 1.0), node("n2", 9.0), node("n3", 90.0)), question("llama"))
    terms = rendered["podAffinity"][PREFERRED]
    labels = [term["podAffinityTerm"]["labelSelector"]["matchLabels"] for term in terms]
    assert [each["cachefs.io/node"] for each in labels] == ["n2"]


def test_ray_is_given_nodes_that_are_alike_in_one_selector():
    told = hint(node("n2", 3.2), node("n1", 3.0), node("n3", 60.0))
    assert ray(told, question("llama")) == {
        "label_selector": {"cachefs.io/node": "in(n1, n2)"},
        "fallback_strategy": [
            {"label_selector": {"cachefs.io/node": "n3"}},
            {"label_selector": {}},
        ],
    }


def test_ray_is_not_given_what_is_no_label():
    told = hint(node("n1\n) evil", 3.0), node("n2", 60.0))
    rendered = ray(told, question("llama"))
    assert rendered["label_selector"] == {"cachefs.io/node": "n2"}
    assert ray(hint(node("-", 3.0), node("?", 60.0)), question("llama")) == {}


def test_nomads_strings_cannot_be_left():
    told = hint(node('n1"\n${env}%{if}', 3.0), node("n2", 90.0))
    rendered = nomad(told, question("llama"))
    assert r'value     = "n1\"\n$${env}%%{if}"' in rendered["hcl"]
    assert rendered["Affinities"][0]["RTarget"] == 'n1"\n${env}%{if}'


def test_a_nomad_constraint_admits_a_name_and_no_pattern():
    told = hint(node("n.1", 3.0, held=1), node("n2", 90.0, held=1))
    pattern = nomad(told, question(required=("llama",)))["Constraints"][0]["RTarget"]
    assert pattern == r"^(n\.1|n2)$"


def test_slurm_prefers_what_as_many_nodes_have_as_the_job_needs():
    assert slurm(THREE, question("llama"))["prefer"] == feature(LLAMA, "hot")
    assert slurm(GANG, question("llama", members=3))["prefer"] == feature(LLAMA, "warm")
    nobody = hint(node("n1", 300.0), node("n2", 310.0))
    assert slurm(nobody, question("llama"))["arguments"] == []


def test_slurm_is_told_of_two_required_datasets_as_and():
    rendered = slurm(THREE, question(required=("llama", "team-a/tokens")))
    tokens = feature(DatasetName("team-a", "tokens"), "warm")
    assert rendered["constraint"] == f"{feature(LLAMA, 'warm')}&{tokens}"
    assert rendered["features"] == {}


def test_a_required_dataset_that_is_not_known_or_is_empty_binds_nobody():
    empty = [dataclasses.replace(each, split=Split()) for each in THREE.nodes]
    for told in (hint(*empty), hint(node("n1", 5.0), node("n2", 90.0))):
        for name in RENDERINGS:
            bound = RENDERINGS[name](told, question(required=("llama",)))
            assert bound == RENDERINGS[name](told, question("llama"))
        assert slurm(told, question(required=("llama",)))["arguments"] == []


def test_slurm_excludes_nodes_that_are_too_late_unless_all_are():
    assert slurm(THREE, question("llama", deadline_seconds=5.0))["exclude"] == "n2,n3"
    assert slurm(THREE, question("llama", deadline_seconds=1.0))["exclude"] == ""


SHOWN = """\
NodeName=n1 Arch=x86_64 AvailableFeatures=gpu,cf_0000aaaa_hot ActiveFeatures=gpu,cf_0000aaaa_hot Gres=(null)
NodeName=n2 Arch=x86_64 AvailableFeatures=(null) ActiveFeatures=(null) Comment=see ActiveFeatures
NodeName=n3 AvailableFeatures=gpu,big ActiveFeatures=gpu

"""


def test_slurms_nodes_are_read_with_their_features():
    assert parse_nodes(SHOWN) == {
        "n1": NodeFeatures(("gpu", "cf_0000aaaa_hot"), ("gpu", "cf_0000aaaa_hot")),
        "n2": NodeFeatures(),
        "n3": NodeFeatures(("gpu", "big"), ("gpu",)),
    }


def test_publishing_keeps_the_features_of_others_and_names_no_strange_node():
    wanted = {"n2": ["cf_1111bbbb_warm"], "n3": ["cf_1111bbbb_warm"], "n9": ["cf_1111bbbb_warm"]}
    commands = updates(parse_nodes(SHOWN), wanted)
    assert commands == [
        ["scontrol", "update", "NodeName=n1", "AvailableFeatures=gpu", "ActiveFeatures=gpu"],
        [
            "scontrol",
            "update",
            "NodeName=n2",
            "AvailableFeatures=cf_1111bbbb_warm",
            "ActiveFeatures=cf_1111bbbb_warm",
        ],
        [
            "scontrol",
            "update",
            "NodeName=n3",
            "AvailableFeatures=gpu,big,cf_1111bbbb_warm",
            "ActiveFeatures=gpu,cf_1111bbbb_warm",
        ],
    ]


def test_publishing_what_is_published_does_nothing():
    known = {"n1": NodeFeatures(("b", "cf_1111bbbb_warm"), ("b", "cf_1111bbbb_warm"))}
    assert updates(known, {"n1": ["cf_1111bbbb_warm"]}) == []


def test_nodes_that_shall_have_the_same_share_a_command():
    known = {f"n{index}": NodeFeatures() for index in range(250)}
    commands = updates(known, dict.fromkeys(known, ("cf_1111bbbb_warm",)))
    assert [command[2].count(",") + 1 for command in commands] == [100, 100, 50]


def test_a_job_waits_for_bytes_that_are_on_their_way_and_for_nothing_else():
    assert seconds_missing(COMING) == 40.0
    nobody_brings_it = hint(node("n1", 45.0, data=40.0))
    assert seconds_missing(nobody_brings_it) == 0.0
    action = Action(kind="prefetch", dataset="llama", node="n1", size=1.0, seconds=40.0)
    proposed = hint(*nobody_brings_it.nodes, actions=(action,))
    assert seconds_missing(proposed) == 0.0
    begun = Action(kind="prefetch", dataset="llama", node="n1", size=1.0, seconds=40.0, job="w1")
    assert seconds_missing(hint(*nobody_brings_it.nodes, actions=(begun,))) == 40.0


def test_a_job_does_not_wait_on_old_knowledge_or_for_what_is_close():
    old = [dataclasses.replace(each, age_seconds=31.0) for each in COMING.nodes]
    assert seconds_missing(hint(*old)) == 0.0
    assert seconds_missing(hint(node("n1", 12.0, arriving=10, data=9.0))) == 0.0
    assert seconds_missing(NOTHING) == 0.0


def test_a_gang_waits_for_the_slowest_of_its_nodes_and_no_other():
    slow = hint(
        node("n1", 3.0, data=1.0),
        node("n2", 60.0, arriving=60, data=55.0),
        node("n3", 400.0, arriving=1, data=390.0),
        gang=GANG.gang,
    )
    assert seconds_missing(slow) == 55.0


def test_patience_ends():
    assert should_wait(COMING, held_seconds=599.0, patience_seconds=600.0) == 40.0
    assert should_wait(COMING, held_seconds=600.0, patience_seconds=600.0) == 0.0


def test_kueue_gives_quota_back_for_a_long_wait_and_keeps_it_for_a_short_one():
    pods = [PodSet("main")]
    short = check_status(COMING, question("llama"), pods, wait_seconds=40.0)
    long = check_status(COMING, question("llama"), pods, wait_seconds=90.2)
    assert (short["state"], "requeueAfterSeconds" in short) == ("Pending", False)
    assert (long["state"], long["requeueAfterSeconds"]) == ("Retry", 91)
    assert "podSetUpdates" not in short | long


def test_kueues_pods_are_pinned_only_where_they_bind_themselves_and_say_nothing_else():
    pods = [PodSet("a"), PodSet("b", frozenset({"topology.kubernetes.io/zone"}))]
    free = check_status(THREE, question("llama"), pods, wait_seconds=0.0)
    bound = check_status(THREE, question(required=("llama",)), pods, wait_seconds=0.0)
    assert [("nodeSelector" in each) for each in free["podSetUpdates"]] == [False, False]
    assert [each.get("nodeSelector") for each in bound["podSetUpdates"]] == [
        {"topology.kubernetes.io/zone": "a"},
        None,
    ]
    assert bound["lastTransitionTime"] == "2027-01-15T08:00:00Z"
