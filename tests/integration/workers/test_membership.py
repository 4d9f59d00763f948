"""How a worker becomes a member, stays one, drains, and goes on without a coordinator."""

from dataclasses import replace

import pytest

from cachefs.config.secrets import Secret
from cachefs.core.eviction import Retention
from cachefs.core.names import WorkerId
from cachefs.errors import (
    ConflictError,
    CoordinatorUnavailableError,
    DeniedError,
    WorkerUnavailableError,
)
from cachefs.transport.control import coordinator_channel, worker_channel
from cachefs.wire import messages
from cachefs.wire.proto import cachefs_pb2 as pb
from cachefs.wire.proto import cachefs_pb2_grpc as rpc


def obtain(site, worker, path="model.bin", *, index=0, seconds=5.0):
    deadline = site.runtime.monotonic() + seconds
    with worker.filler.obtain(
        site.file(path), index, only_cached=False, deadline=deadline
    ) as obtained:
        return obtained.source


def obtain_all(site, worker):
    return [obtain(site, worker, index=index) for index in range(6)]


def call(site, worker, name, request):
    with worker_channel(worker.member.control_address, site.token) as channel:
        return channel.call(getattr(rpc.WorkerStub(channel.channel), name), request)


def members(site):
    return {each.worker for each in site.coordinator.membership.view.members}


def test_what_is_filled_is_reported_with_its_digests(site, worker):
    obtain_all(site, worker)
    file_version = site.file("model.bin").entry.file_version
    site.wait_until(lambda: len(site.coordinator.known.get(file_version, {})) == 6)
    assert site.coordinator.renewals[0].residency_is_whole
    assert '"filled_bytes"' in site.coordinator.renewals[-1].statistics


def test_a_failed_fill_is_reported(site, worker):
    (site.data / "small").unlink()
    with pytest.raises(FileNotFoundError):
        obtain(site, worker, "small")
    site.wait_until(lambda: any(each.failures for each in site.coordinator.renewals))
    reported = [one for each in site.coordinator.renewals for one in each.failures]
    assert len(reported) == 1
    assert "OriginNotFoundError" in reported[0].failure


def test_a_worker_whose_lease_ran_out_registers_anew_and_reports_everything(site, worker):
    obtain(site, worker)
    site.wait_until(lambda: site.coordinator.known)
    site.coordinator.known.clear()
    site.coordinator.forget()
    site.wait_until(lambda: members(site) == {"w1"} and site.coordinator.known)


def test_reads_and_fills_go_on_while_the_coordinator_is_down(site, worker):
    obtain(site, worker, index=0)
    site.coordinator.close()
    assert obtain(site, worker, index=0) == "disk"
    assert obtain(site, worker, index=1) == "origin"
    site.coordinator.start()
    file_version = site.file("model.bin").entry.file_version
    site.wait_until(lambda: len(site.coordinator.known.get(file_version, {})) == 2)


def test_a_worker_that_never_saw_a_version_learns_it_from_another(site, worker):
    obtain(site, worker)
    other = site.add("w2")
    site.wait_until(lambda: other.renewal.registered)
    site.wait_until(lambda: len(other.knowledge.view(deadline=0).members) == 2)
    site.coordinator.close()
    found = other.knowledge.file(
        site.version.dataset,
        site.version.manifest.id,
        site.file("small").entry.file_version,
        deadline=site.runtime.monotonic() + 10,
    )
    assert found == site.file("small")


def test_a_restarted_worker_serves_what_it_has_without_a_coordinator(site, worker):
    worker.knowledge.resolve(site.version.dataset, None, deadline=site.runtime.monotonic() + 5)
    obtain(site, worker)
    worker.close()
    site.coordinator.close()
    again = site.add("w1")
    assert not again.renewal.registered
    assert again.knowledge.resolve_here(
        site.version.dataset, None, deadline=site.runtime.monotonic() + 2
    ).manifest.id == (site.version.manifest.id)
    assert obtain(site, again) == "disk"
    assert obtain(site, again, index=1) == "origin"


def test_pins_and_drops_are_obeyed(site, worker):
    obtain(site, worker, "small")
    file_version = site.file("small").entry.file_version
    site.coordinator.answer = pb.RenewResponse(
        pins=messages.retention_to_message(Retention(frozenset({file_version}), {}, 1))
    )
    site.wait_until(lambda: worker.store.is_pinned(file_version))
    assert call(site, worker, "Evict", pb.EvictRequest(file_versions=[file_version])).refused == [
        file_version
    ]
    site.coordinator.answer = pb.RenewResponse(dropped=[file_version])
    site.wait_until(lambda: not worker.store.holds(file_version, 0))


def test_a_block_that_rotted_is_found_and_filled_again(site):
    worker = site.add("w1", scrub_period_seconds=0.2)
    obtain(site, worker, "small")
    (tier,) = worker._config.tiers
    (data,) = [
        each for each in tier.folder.rglob("*") if each.is_file() and each.stat().st_size == 5
    ]
    with data.open("r+b") as file:
        file.write(b"WRONG")
    file_version = site.file("small").entry.file_version
    site.wait_until(lambda: site.origin_bytes() == 10 and worker.store.holds(file_version, 0))
    assert obtain(site, worker, "small") == "disk"
    assert data.read_bytes() == b"hello"


def test_a_worker_that_finds_another_under_its_name_stands_down(site, worker):
    newcomer = replace(worker.member, incarnation="newer")
    site.coordinator.membership.register(newcomer, site.runtime.monotonic())
    site.wait_until(lambda: worker.renewal.superseded)
    assert site.coordinator.membership.view.members == (newcomer,)


def test_a_worker_that_is_closed_says_goodbye(site, worker):
    worker.close()
    assert members(site) == set()


def test_warm_evict_explain_and_stat(site, worker):
    file_version = site.file("model.bin").entry.file_version
    wanted = [pb.WantedBlocks(file_version=file_version, blocks=b"\x3f")]
    request = pb.WarmRequest(job="j", dataset="m", version=site.version.manifest.id, wanted=wanted)
    call(site, worker, "Warm", request)
    explain = pb.ExplainRequest(file_version=file_version)
    site.wait_until(lambda: call(site, worker, "Explain", explain).resident == b"\x3f")
    explained = call(site, worker, "Explain", explain)
    size = len(site.files["model.bin"])
    assert (explained.tier, dict(explained.filled_bytes)) == ("disk", {"origin": size})
    assert '"misses": 0' in call(site, worker, "Stat", pb.StatRequest()).statistics
    evicted = call(site, worker, "Evict", pb.EvictRequest(file_versions=[file_version]))
    assert (evicted.bytes, evicted.refused) == (size, [])
    assert call(site, worker, "Explain", explain).resident == b""


def test_no_call_is_answered_without_the_token(site, worker):
    with worker_channel(worker.member.control_address, Secret("wrong")) as channel:
        stub = rpc.WorkerStub(channel.channel)
        for name in ("Stat", "Warm", "Evict", "Explain", "Drain"):
            with pytest.raises(DeniedError):
                channel.call(getattr(stub, name), getattr(pb, f"{name}Request")())


def test_nobody_there_is_the_error_of_the_one_who_was_called(site):
    worker = worker_channel("127.0.0.1:1", site.token, timeout_seconds=2)
    coordinator = coordinator_channel("127.0.0.1:1", site.token, timeout_seconds=2)
    with worker, pytest.raises(WorkerUnavailableError):
        worker.call(rpc.WorkerStub(worker.channel).Stat, pb.StatRequest())
    with coordinator, pytest.raises(CoordinatorUnavailableError):
        coordinator.call(rpc.CoordinatorStub(coordinator.channel).GetView, pb.GetViewRequest())


def test_the_last_worker_cannot_hand_over_what_it_holds(site, worker):
    obtain(site, worker)
    with pytest.raises(ConflictError, match="nobody else"):
        call(site, worker, "Drain", pb.DrainRequest(dry_run=True))


@pytest.mark.slow
def test_a_drain_hands_everything_over_and_costs_the_origin_nothing(site, worker):
    assert set(obtain_all(site, worker)) == {"origin"}
    other = site.add("w2")
    site.wait_until(lambda: other.renewal.registered)
    site.wait_until(lambda: len(worker.knowledge.view(deadline=0).members) == 2)
    before = site.origin_bytes()
    plan = call(site, worker, "Drain", pb.DrainRequest(dry_run=True))
    assert (plan.blocks, plan.bytes, plan.done) == (6, len(site.files["model.bin"]), False)
    site.coordinator.membership.drain(WorkerId("w1"), site.runtime.monotonic())
    site.wait_until(lambda: call(site, worker, "Drain", pb.DrainRequest()).done)
    assert site.origin_bytes() == before
    assert set(obtain_all(site, other)) == {"disk"}
    site.wait_until(lambda: members(site) == {"w2"})


def test_a_worker_that_joins_takes_its_blocks_from_peers(site, worker):
    obtain_all(site, worker)
    site.wait_until(lambda: site.coordinator.known)
    other = site.add("w2")
    site.wait_until(lambda: other.renewal.registered)
    assert set(obtain_all(site, other)) == {"peer"}


def test_many_cold_readers_cost_the_origin_once(site, worker):
    other = site.add("w2")
    site.wait_until(lambda: other.renewal.registered)
    site.wait_until(lambda: len(worker.knowledge.view(deadline=0).members) == 2)
    file_version = site.file("model.bin").entry.file_version
    site.version = site.version.__class__(
        *[getattr(site.version, n) for n in ("dataset", "origin", "client", "pool")],
        2,
        site.version.manifest,
    )
    site.coordinator.versions[-1] = site.version
    request = pb.WarmRequest(
        job="j",
        dataset="m",
        version=site.version.manifest.id,
        wanted=[pb.WantedBlocks(file_version=file_version, blocks=b"\x3f")],
    )
    for each in (worker, other):
        call(site, each, "Warm", request)
    for each in (worker, other):
        site.wait_until(
            lambda each=each: all(each.store.holds(file_version, index) for index in range(6))
        )
    assert site.origin_bytes() == len(site.files["model.bin"])
