"""What plans say: bytes exactly, seconds by the rates, and what must not be."""

import pytest

from cachefs.config.schema import PlanningConfig
from cachefs.core.names import DatasetName
from cachefs.dataflow.copying.plans import CopySizes
from cachefs.dataflow.planning.planner import CachePlanner
from cachefs.dataflow.spec.reading import read_flow
from cachefs.testing.memory.cache import MemoryCache

NAME = DatasetName("team", "llama")
FILES = {"a.safetensors": 2000, "b.safetensors": 1000, "config.json": 100}
RATES = PlanningConfig(
    origin_bytes_per_second=100, peer_bytes_per_second=1000, worker_seconds=2, egress_usd_per_gb=1e9
)
HEAD = """
apiVersion: cachefs/v1
kind: Flow
metadata: {name: deploy, namespace: team}
"""


@pytest.fixture
def cache():
    made = MemoryCache({"memory://v1": FILES})
    made.publish(NAME, "memory://v1", {}, label="v1")
    return made


def planned(cache, spec, **params):
    flow = read_flow(f"{HEAD}spec:\n{spec}", name="flow")
    return CachePlanner(cache, RATES, measured).plan(flow, {**flow.params, **params})


def measured(namespace, wanted):
    """Say of any copy that a fifth of it is there."""
    assert namespace == "team"
    return CopySizes(
        files=2,
        bytes=500,
        files_to_copy=1,
        bytes_to_copy=400,
        files_to_compare=0,
        bytes_to_compare=0,
    )


WARM = """
  steps:
  - {id: out, kind: scale, with: {dataset: llama, workers: 2}}
  - {id: warm, kind: prefetch, needs: [out], with: {dataset: llama, paths: ["*.safetensors"]}}
  - {id: again, kind: prefetch, needs: [warm], with: {dataset: llama}}
  - {id: pause, kind: wait, needs: [out], with: {duration: 3s}}
"""


def test_each_byte_comes_from_the_origin_once_and_waits_run_beside(cache):
    plan = planned(cache, WARM).document
    steps = {step["id"]: step for step in plan["steps"]}
    assert steps["warm"]["origin_bytes"] == 3000
    assert (steps["again"]["bytes_cached"], steps["again"]["origin_bytes"]) == (3000, 100)
    assert steps["warm"]["seconds"] == 3000 / (100 * 2)
    assert plan["origin_bytes"] == 3100
    assert plan["critical_path"] == ["out", "warm", "again"]
    assert plan["seconds"] == 2 + 15 + 0.5
    assert steps["pause"]["begins"] == 2


def test_what_workers_hold_already_is_not_fetched(cache):
    cache.add_worker("w1")
    cache.warm(NAME, None, ("a.safetensors",), key="k")
    cache.fill()
    before = cache.origin_bytes
    plan = planned(cache, "  steps: [{id: warm, kind: prefetch, with: {dataset: llama}}]").document
    assert plan["origin_bytes"] == 1100
    cache.warm(NAME, None, (), key="all")
    cache.fill()
    assert cache.origin_bytes - before == plan["origin_bytes"]


def test_a_second_zone_is_filled_by_the_first(cache):
    for zone in ("a", "b"):
        cache.add_worker(f"w{zone}", zone)
    plan = planned(
        cache,
        """
  params: {zones: [a, b]}
  steps:
  - id: warm
    kind: prefetch
    foreach: {zone: "${params.zones}", max_parallel: 1}
    with: {dataset: llama, zone: "${each.zone}"}
""",
    ).document
    assert [step["origin_bytes"] for step in plan["steps"]] == [3100, 0]
    assert [step["peer_bytes"] for step in plan["steps"]] == [0, 3100]
    assert plan["bytes_by_zone"] == {"a": 3100, "b": 3100}


def test_conditions_ask_the_plan_itself(cache):
    cache.add_worker("w1")
    steps = """
  steps:
  - {id: warm, kind: prefetch, with: {dataset: llama}}
  - {id: gate, kind: approve, if: "plan.egress_usd > LIMIT"}
"""
    asked = planned(cache, steps.replace("LIMIT", "1000")).document
    assert [step["id"] for step in asked["steps"]] == ["warm", "gate"]
    assert asked["seconds_unknown"] == ["gate"]
    assert asked["egress_usd"] == pytest.approx(3100)
    passed = planned(cache, steps.replace("LIMIT", "4000")).document
    assert passed["skipped"] == {"gate": "Skipped"}


def asked_for_residency(cache, steps, monkeypatch):
    asked = []
    residency = cache.residency

    def ask(*arguments):
        asked.append(arguments)
        return residency(*arguments)

    monkeypatch.setattr(cache, "residency", ask)
    planned(cache, steps)
    return len(asked)


@pytest.mark.parametrize(
    ("step", "passes"),
    [
        ("kind: wait, with: {duration: 1s}", 1),
        ("kind: wait, with: {duration: 1s}, if: 1 < 2", 1),
        ("kind: wait, with: {duration: 1s}, if: plan.seconds > 1", 2),
        ('kind: notify, with: {url: "http://h/", body: {takes: "${plan.seconds}"}}', 2),
        ('kind: wait, with: {duration: 1s}, foreach: {n: "${range(plan.bytes_total)}"}', 2),
    ],
)
def test_the_cache_is_asked_again_only_if_a_step_asks_the_plan(cache, monkeypatch, step, passes):
    cache.add_worker("w1")
    warm = "{id: warm, kind: prefetch, with: {dataset: llama, paths: [config.json]}}"
    once = asked_for_residency(cache, f"  steps: [{warm}]", monkeypatch)
    steps = f"  steps:\n  - {warm}\n  - {{id: other, {step}}}\n"
    assert asked_for_residency(cache, steps, monkeypatch) == passes * once


def test_what_is_copied_out_of_a_folder_is_not_charged_for(cache):
    steps = '  steps: [{{id: copy, kind: migrate, with: {{from: "{0}", to: "file:///b"}}}}]'
    assert planned(cache, steps.format("s3://a/b")).document["egress_usd"] == pytest.approx(400)
    assert planned(cache, steps.format("file:///a")).document["egress_usd"] == 0
    assert planned(cache, steps.format("dataset:llama")).document["egress_usd"] > 0


def test_a_copy_costs_what_is_not_there_yet(cache):
    plan = planned(
        cache,
        """
  steps:
  - {id: copy, kind: migrate, with: {from: "file:///a", to: "file:///b"}}
  - {id: slow, kind: migrate, needs: [copy], with: {from: "file:///a", to: "file:///c", rate: 10B/s}}
  - {id: keep, kind: backup, needs: [slow], with: {dataset: llama, to: "file:///d"}}
""",
    ).document
    assert [step["origin_bytes"] for step in plan["steps"]] == [400, 400, 0]
    assert [step["bytes_cached"] for step in plan["steps"]] == [100, 100, 100]
    assert [step["seconds"] for step in plan["steps"]] == [4, 40, 4]


def test_who_names_no_version_gets_what_an_earlier_step_publishes(cache):
    cache.add_worker("w1")
    cache.origins["memory://v2"] = {"a.safetensors": 2000, "new.bin": 500}
    cache.publish(NAME, "memory://v2", {}, label="v2")
    plan = planned(
        cache,
        """
  steps:
  - {id: before, kind: prefetch, with: {dataset: llama}}
  - {id: publish, kind: publish, needs: [before], with: {dataset: llama@v2}}
  - {id: after, kind: prefetch, needs: [publish], with: {dataset: llama}}
  - {id: later, kind: publish, needs: [after], with: {dataset: llama@v3}}
""",
    ).document
    assert [step["bytes_total"] for step in plan["steps"]] == [3100, 0, 2500, 0]
    assert [step["origin_bytes"] for step in plan["steps"]] == [3100, 0, 500, 0]
    assert plan["seconds_unknown"] == []


def test_more_copies_of_what_is_there_come_from_others(cache):
    for worker in ("w1", "w2", "w3"):
        cache.add_worker(worker)
    cache.warm(NAME, None, ("a.safetensors",), key="k")
    cache.fill()
    steps = """
  steps:
  - {id: twice, kind: prefetch, with: {dataset: llama, copies: 2}}
  - {id: again, kind: prefetch, needs: [twice], with: {dataset: llama, copies: 2}}
  - {id: thrice, kind: prefetch, needs: [again], with: {dataset: llama, copies: 3}}
"""
    plan = planned(cache, steps).document
    assert [step["origin_bytes"] for step in plan["steps"]] == [1100, 0, 0]
    assert [step["peer_bytes"] for step in plan["steps"]] == [3100, 0, 3100]


def test_steps_that_fill_at_once_share_the_links_of_the_workers(cache):
    cache.add_worker("w1")
    steps = """
  steps:
  - {id: a, kind: prefetch, with: {dataset: llama, paths: [a.safetensors]}}
  - {id: b, kind: prefetch, with: {dataset: llama, paths: [b.safetensors]}}
  - {id: paced, kind: prefetch, with: {dataset: llama, paths: [config.json], rate: 2B/s}}
"""
    plan = planned(cache, steps).document
    assert {step["id"]: step["seconds"] for step in plan["steps"]} == {
        "a": 30,
        "b": 20,
        "paced": 50,
    }
    assert plan["seconds"] == 50


def test_a_copy_into_a_dataset_is_as_fast_as_its_workers(cache):
    cache.add_worker("w1")
    cache.add_worker("w2")
    steps = '  steps: [{id: copy, kind: migrate, with: {from: "s3://a/b", to: "dataset:llama@v2"}}]'
    assert planned(cache, steps).document["seconds"] == 400 / (2 * 100)


def test_an_eviction_waits_for_as_long_as_it_says(cache):
    plan = planned(
        cache,
        """
  steps:
  - {id: old, kind: evict, with: {dataset: llama, after: 1h}}
  - {id: tell, kind: wait, needs: [old], with: {duration: 5s}}
""",
    ).document
    assert [step["begins"] for step in plan["steps"]] == [3600, 3600]
    assert plan["seconds"] == 3605


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        ("origin_bytes: 3099", "3100 bytes of the origin are over the budget of 3099"),
        ("egress_usd: 10", "3100.00 USD of egress are over the budget of 10.00"),
        ("wall: 30s", "31 s at least are over the budget of 30 s"),
    ],
)
def test_what_is_over_the_budget_is_refused(cache, budget, said):
    cache.add_worker("w1")
    steps = "  steps: [{id: warm, kind: prefetch, with: {dataset: llama}}]"
    assert planned(cache, f"  budget: {{{budget}}}\n{steps}").refusals == (said,)
    assert planned(cache, f"  budget: {{origin_bytes: 3100}}\n{steps}").refusals == ()


def test_what_does_not_fit_is_refused(cache):
    cache.add_worker("w1", capacity=3000)
    plan = planned(cache, "  steps: [{id: warm, kind: prefetch, with: {dataset: llama}}]")
    assert plan.refusals[0].startswith("warm: pool default would have 3000 bytes, and 3100 are to")
    grown = """
  steps:
  - {id: out, kind: scale, with: {dataset: llama, workers: 2}}
  - {id: warm, kind: prefetch, needs: [out], with: {dataset: llama}}
"""
    assert planned(cache, grown).refusals == ()


def test_nothing_is_warmed_where_no_worker_would_be(cache):
    plan = planned(cache, "  steps: [{id: warm, kind: prefetch, with: {dataset: llama}}]")
    assert plan.refusals == ("warm: pool default would have no worker",)


def test_ten_thousand_steps_are_planned(cache):
    steps = "\n".join(
        f"  - {{id: s{number}, kind: wait, with: {{duration: 1s}}"
        + (f", needs: [s{number - 100}]" if number >= 100 else "")
        + "}"
        for number in range(10_000)
    )
    plan = planned(cache, f"  steps:\n{steps}").document
    assert plan["seconds"] == 100
    assert len(plan["critical_path"]) == 100
