"""From a question to a hint: what is said, what is not known, and what is begun for it."""

from dataclasses import replace

import pytest

from cachefs.core.hints.asking import (
    Affinity,
    Gang,
    Loader,
    LoaderMode,
    Question,
    Reading,
    WantedGpu,
)
from cachefs.core.hints.spread import Split
from cachefs.core.names import DatasetName
from cachefs.hints.bodies import NodeBody
from cachefs.hints.deciding import NO_ACCELERATORS
from tests.unit.hints.service.known import DISK, LLAMA, LOAD, SIZE, VERSION, Site, names

H100 = WantedGpu(model="H100")


@pytest.fixture
def site():
    site = Site()
    for name in ("n1", "n2", "n3"):
        site.known.put(name)
    site.known.hold(LLAMA, SIZE, n2=1.0, n3=0.5)
    return site


def test_whoever_holds_the_bytes_is_ready_first_and_the_seconds_add_up(site):
    hint = site.ask()
    assert names(hint) == ["n2", "n3", "n1"]
    assert [node.rank for node in hint.nodes] == [1, 2, 3]
    best = hint.nodes[0]
    assert best.score == 100.0 > hint.nodes[1].score > hint.nodes[2].score
    assert best.breakdown.data == pytest.approx(SIZE / DISK, abs=0.01)
    assert best.breakdown.load == pytest.approx(SIZE / LOAD)
    assert best.ready.p50 == pytest.approx(best.breakdown.ready)
    assert best.breakdown.bottleneck == "nvme:n2"
    assert hint.nodes[2].breakdown.bottleneck.startswith("origin")
    assert (best.cached, hint.nodes[1].cached, hint.nodes[2].cached) == (1.0, 0.5, 0.0)
    assert (hint.epoch, hint.degraded) == (7, "")
    assert hint.valid_until == hint.generated_at + 5.0


def test_only_as_many_nodes_as_asked_for_are_described_and_every_one_can_be_counted(site):
    hint = site.ask(limit=1, every=True)
    assert names(hint) == ["n2"]
    assert list(hint.seconds) == ["n2", "n3", "n1"]
    assert hint.seconds["n2"] == hint.nodes[0].ready.p50
    assert site.ask().seconds == {}


def test_a_dataset_that_nobody_knows_tells_no_nodes_apart(site):
    hint = site.ask("unknown")
    assert {node.score for node in hint.nodes} == {100.0}
    assert hint.degraded == "there is no dataset unknown"
    assert hint.nodes[0].confidence < site.ask().nodes[0].confidence


def test_of_several_datasets_those_that_are_known_count(site):
    hint = site.ask("llama", "unknown")
    assert names(hint)[0] == "n2"
    assert "there is no dataset unknown" in hint.degraded


def test_a_store_that_does_not_answer_is_no_error(site):
    site.known.is_down = True
    hint = site.ask()
    assert {node.score for node in hint.nodes} == {100.0}
    assert "llama cannot be looked up: the coordinator's store does not answer" in hint.degraded


def test_with_no_nodes_there_is_no_opinion():
    hint = Site().ask()
    assert not hint.has_opinion
    assert "no node is known" in hint.degraded


def test_old_knowledge_is_said_and_trusted_less(site):
    fresh = site.ask().nodes[0].confidence
    site.clock.now += 31
    hint = site.ask()
    assert hint.degraded == "inventory 31 s old"
    assert hint.nodes[0].age_seconds == 31
    assert hint.nodes[0].confidence < fresh / 2


def test_who_wants_fresher_knowledge_is_told_sooner(site):
    site.clock.now += 6
    assert site.ask().degraded == ""
    hint = site.ask(staleness_seconds_max=5)
    assert (hint.degraded, len(hint.nodes)) == ("inventory 6 s old", 3)


def test_what_the_inventory_complains_of_is_in_the_answer(site):
    site.known.problems = ("nodes.yaml cannot be read",)
    assert site.ask().degraded == "nodes.yaml cannot be read"


def test_files_that_are_still_looked_through_make_an_answer_worth_less(site):
    site.known.hold(LLAMA, SIZE, exact=False, n2=1.0)
    hint = site.ask()
    assert hint.degraded == "the files of llama are still being looked through"
    assert names(hint)[0] == "n2"


def test_a_required_dataset_leaves_only_those_that_hold_some(site):
    hint = site.ask(Reading(dataset=LLAMA, affinity=Affinity.REQUIRED), explain=True)
    assert names(hint) == ["n2", "n3"]
    assert "holds nothing" in hint.refused["n1"]


def test_full_nodes_are_refused_with_their_reason_and_others_wait(site):
    site.known.put("n2", busy=8)
    site.known.put("n3", busy=8, free_in=100.0)
    hint = site.ask(gpu=H100, candidates=("n1", "n2", "n3", "n9"))
    assert names(hint) == ["n1", "n3"]
    assert hint.nodes[1].breakdown.slot == pytest.approx(100.0)
    assert hint.nodes[1].breakdown.bottleneck == "slot:n3"
    assert not hint.nodes[1].fit.slots
    assert "0 of 8 H100 are free" in hint.refused["n2"]
    assert hint.refused["n9"] == "the node is not known"


def test_hundreds_that_are_refused_are_told_so_without_looking_into_each(site):
    for number in range(200):
        site.known.put(f"full{number}", busy=8)
    candidates = tuple(f"full{number}" for number in range(200))
    hint = site.ask(gpu=H100, candidates=candidates)
    assert len(hint.refused) == 200
    assert len(set(hint.refused.values())) == 2
    explained = site.ask(gpu=H100, candidates=candidates, explain=True)
    assert len(set(explained.refused.values())) == 1


def test_where_nobody_knows_accelerators_they_are_left_to_the_scheduler():
    site = Site()
    site.known.put("n1", gpus=0)
    site.known.hold(LLAMA, SIZE, n1=1.0)
    hint = site.ask(gpu=H100)
    assert names(hint) == ["n1"]
    assert hint.degraded == NO_ACCELERATORS
    site.known.put("n2", gpus=1)
    assert names(site.ask(gpu=H100)) == ["n2"]


def test_a_selector_and_the_image_count(site):
    site.known.put("n1", labels={"pool": "a"}, images=frozenset({"vllm"}))
    site.known.put("n2", labels={"pool": "a"}, images=frozenset())
    hint = site.ask(selector={"pool": "a"}, image="vllm", image_bytes=90 * 10**9)
    assert names(hint) == ["n2", "n1"]
    assert hint.nodes[0].breakdown.image == pytest.approx(30.0)
    assert hint.nodes[1].breakdown.image == 0.0
    site.known.put("n2", labels={"pool": "a"}, images=frozenset({"vllm"}))
    assert site.ask(image="vllm", image_bytes=90 * 10**9).nodes[0].breakdown.image == 0.0


def test_images_of_which_nobody_has_told_delay_nobody(site):
    hint = site.ask(image="vllm", image_bytes=90 * 10**9)
    assert {node.breakdown.image for node in hint.nodes} == {0.0}


def test_what_is_on_its_way_is_there_no_sooner_for_who_reads_a_share_of_it(site):
    site.known.arrive(LLAMA, SIZE, "n1", seconds=40.0)
    rank = Reading(dataset=LLAMA, by_rank=True)
    alone = site.ask(rank, candidates=("n1",)).nodes[0]
    shared = site.ask(rank, candidates=("n1",), gang=Gang(size=4)).nodes[0]
    assert alone.breakdown.data == pytest.approx(40.0, abs=0.1)
    assert shared.breakdown.data == pytest.approx(40.0, abs=0.1)


def test_a_lazy_loader_waits_for_a_part_only(site):
    lazy = site.ask(loader=Loader(mode=LoaderMode.LAZY, required_fraction=0.1)).nodes[0]
    assert lazy.breakdown.data == pytest.approx(0.1 * SIZE / DISK, abs=0.01)


def test_a_dataset_with_more_weight_decides(site):
    other = DatasetName.parse("adapter")
    site.known.hold(other, SIZE // 4, n1=1.0)
    both = [Reading(dataset=LLAMA), Reading(dataset=other)]
    assert names(site.ask(*both))[0] == "n2"
    both[1] = replace(both[1], weight=50.0)
    hint = site.ask(*both)
    assert names(hint)[0] == "n1"
    assert (
        hint.nodes[0].ready.p50 > hint.nodes[1].ready.p50
    )  # its real seconds are told all the same


def test_what_egress_and_waiting_accelerators_cost_is_told():
    site = Site(egress_usd_per_gb=0.09, gpu_usd_per_hour=3.6)
    site.known.put("n1")
    site.known.hold(LLAMA, SIZE)
    node = site.ask(gpu=WantedGpu(count=8)).nodes[0]
    assert node.egress_usd == pytest.approx(SIZE / 1e9 * 0.09)
    assert node.idle_usd == pytest.approx(node.ready.p50 * 8 * 3.6 / 3600)


def test_a_gang_is_placed_together(site):
    site.known.put("n4", rack="r2")
    hint = site.ask(gpu=WantedGpu(count=8), gang=Gang(size=3, required_topology="rack"))
    assert sorted(hint.gang.assignment) == ["n1", "n2", "n3"]
    assert (hint.gang.level, hint.gang.domain) == ("rack", "a/r1")
    assert hint.gang.ready.p50 >= max(node.ready.p50 for node in hint.nodes if node.node != "n4")
    nowhere = site.ask(gpu=WantedGpu(count=8), gang=Gang(size=4, required_topology="rack"))
    assert nowhere.gang is None
    assert "3 of 4 members find a place in any one rack" in nowhere.degraded


def test_a_prefetch_is_told_and_only_begun_for_whoever_asks(site):
    site.known.hold(LLAMA, SIZE, n2=0.75)
    hint = site.ask()
    (action,) = hint.actions
    assert (action.kind, action.node, action.job) == ("prefetch", "n2", "")
    assert action.dataset == f"llama@{VERSION}"
    assert action.size == pytest.approx(SIZE / 4)
    assert not site.warmed
    (begun,) = site.ask(prefetch=True).actions
    assert begun.job == "w1"
    assert [wanted.node for _, wanted in site.warmed] == ["n2"]
    site.ask(prefetch=True, dry_run=True)
    assert len(site.warmed) == 1


def test_nothing_is_prefetched_to_a_node_that_keeps_nothing(site):
    site.known.hold(LLAMA, SIZE, n2=0.75)
    site.keeping = {"n1"}
    hint = site.ask(prefetch=True)
    assert (names(hint)[0], hint.actions, site.warmed) == ("n2", (), [])


def test_what_is_there_already_needs_no_prefetch(site):
    assert site.ask(prefetch=True).actions == ()


def test_ranks_that_read_shares_are_prefetched_only_those(site):
    site.known.hold(LLAMA, SIZE)
    reading = Reading(dataset=LLAMA, by_rank=True)
    hint = site.ask(reading, gpu=WantedGpu(count=8), gang=Gang(size=3), prefetch=True)
    assert sum(action.size for action in hint.actions) == pytest.approx(SIZE)
    ranks = {wanted.node: wanted.ranks for _, wanted in site.warmed}
    assert {node: hint.gang.assignment[min(rank)] for node, (rank, _) in ranks.items()} == {
        node: node for node in hint.gang.assignment
    }
    assert {size for _, size in ranks.values()} == {3}
    assert len({wanted.key for _, wanted in site.warmed}) == 3


def test_a_hint_without_anything_to_read_tells_free_nodes(site):
    hint = site.service.answer(Question(gpu=WantedGpu(count=8)))
    assert len(hint.nodes) == 3
    assert hint.nodes[0].ready.p50 == 0.0
    assert hint.nodes[0].cached == 1.0


def test_what_was_learned_of_a_part_changes_what_is_said(site):
    hint = site.ask(candidates=("n2",))
    for _ in range(20):
        site.service.outcome(hint.id, "n2", 30.0, {"data": 2 * SIZE / DISK})
        hint = site.ask(candidates=("n2",))
    assert hint.nodes[0].breakdown.data == pytest.approx(2 * SIZE / DISK, rel=0.05)


def test_a_rank_that_reads_a_share_is_ready_sooner_than_one_that_reads_all(site):
    whole = site.ask(Reading(dataset=LLAMA), gang=Gang(size=4)).nodes[0]
    share = site.ask(Reading(dataset=LLAMA, by_rank=True), gang=Gang(size=4)).nodes[0]
    assert share.split.total == pytest.approx(whole.split.total / 4)
    assert share.breakdown.data == pytest.approx(whole.breakdown.data / 4, abs=0.01)


def test_what_is_on_its_way_is_told_by_dataset_and_charged_to_nobody(site):
    site.known.arrive(LLAMA, SIZE, "n1", seconds=3.0)
    node = next(each for each in site.ask().nodes if each.node == "n1")
    assert node.breakdown.data == pytest.approx(3.0, abs=0.01)
    assert node.breakdown.bottleneck == "arriving:n1"
    (transfer,) = node.transfers
    assert (transfer.id, transfer.size, transfer.seconds) == (f"llama@{VERSION}>n1", SIZE, 3.0)
    shown = NodeBody.of(node)
    assert shown.bytes.inflight == shown.bytes.total == SIZE
    assert shown.inflight[0].eta_s == 3.0
    assert not site.ask(candidates=("n1",)).actions


def test_memory_behind_another_numa_node_is_memory_all_the_same(site):
    node = site.ask().nodes[0]
    far = replace(node, split=Split(dram=1.0, dram_far=2.0, nvme=4.0))
    shown = NodeBody.of(far).bytes
    assert (shown.dram, shown.dram_far, shown.nvme, shown.total) == (3, 2, 4, 7)
