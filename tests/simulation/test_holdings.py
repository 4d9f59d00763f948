"""Each checker of what workers hold, lend and hand over finds the bug that it is there for."""

from cachefs.core.blocks import BlockId
from cachefs.testing.simulation.cluster import Parts
from cachefs.testing.simulation.world.local import SimHandout
from cachefs.transport.connections import Patience
from cachefs.transport.local import LocalNode
from cachefs.workers.drain import Drain
from cachefs.workers.filling.filler import Filler
from cachefs.workers.serving.spreading import Spreading
from cachefs.workers.storage.scrub import Scrubber
from cachefs.workers.storage.store import TieredStore
from tests.simulation.finding import find, parts_of_worker


class IdleScrubber(Scrubber):
    def _scrub(self, block):
        return 0


def test_a_scrubber_that_does_not_look_is_found():
    said = find(
        parts_of_worker(scrubber=IdleScrubber),
        fault="damage",
        where=lambda plan: plan.cluster.scrub_seconds,
    )
    assert "did not find that" in said or "wrong bytes" in said


class CarelessDrain(Drain):
    """Believes that there is nothing to hand over."""

    def _shares(self):
        super()._shares()
        return []


def test_a_drain_that_hands_nothing_over_is_found():
    said = find(parts_of_worker(drain=CarelessDrain), where=lambda plan: plan.drain)
    assert "held when its drain began" in said


class KeepingHandout(SimHandout):
    """Does not notice that a reader has left."""

    def _release(self, each):
        pass


def test_a_worker_that_does_not_take_its_leases_back_is_found():
    said = find(parts_of_worker(handout=KeepingHandout), where=lambda plan: plan.cluster.local)
    assert "reserved or lent" in said


class PinBlindStore(TieredStore):
    def set_pins(self, pinned, ttls):
        super().set_pins((), ttls)


def test_a_store_that_evicts_what_is_pinned_is_found():
    assert "which is pinned" in find(parts_of_worker(store=PinBlindStore), fault="pin")


class TimelessStore(TieredStore):
    def expire(self, now):
        return 0


def test_a_store_that_keeps_what_has_expired_is_found():
    said = find(
        parts_of_worker(store=TimelessStore), where=lambda plan: plan.cluster.ttl_seconds == 2.0
    )
    assert "which has expired" in said


class HospitableStore(TieredStore):
    """Never tells a guest to go."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.guests.settle = lambda *_, **__: 0


def is_crowded(plan):
    return plan.cluster.heat.askers_limit == 1 and plan.cluster.workers > 1


def test_a_store_that_keeps_the_copies_of_a_crowd_that_has_gone_is_found():
    said = find(parts_of_worker(store=HospitableStore), calm=True, where=is_crowded)
    assert "that nobody reads" in said


class RashSpreading(Spreading):
    """Refers everybody, also those who wait for the first fill."""

    def refer(self, file, index, zone):
        replicas = self._replicas(file, BlockId(file.entry.file_version, index), zone)
        return replicas[0] if replicas else None


class ObligingFiller(Filler):
    """Asks the origin for a copy that no worker has."""

    def obtain(self, *args, from_peers=False, **kwargs):
        return super().obtain(*args, **kwargs)


def test_replicas_that_fill_from_the_origin_are_found():
    broken = parts_of_worker(spreading=RashSpreading, filler=ObligingFiller)
    assert "from the origin" in find(broken, calm=True, where=is_crowded)


class RuthlessStore(TieredStore):
    """Does not ask who has a file open."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        for tier in self._tiers:
            tier._data.is_open_elsewhere = lambda _file: False


def test_a_store_that_punches_holes_under_others_is_found():
    said = find(parts_of_worker(store=RuthlessStore), where=lambda plan: plan.linger)
    assert "made a hole under others" in said


class ForgetfulFiller(Filler):
    """Leaves the last block of each file out of a warm-up."""

    def warm(self, job, wanted):
        super().warm(job, {file: blocks[:-1] for file, blocks in wanted.items()})


def test_a_warm_up_that_leaves_blocks_out_is_found():
    said = find(
        parts_of_worker(filler=ForgetfulFiller),
        calm=True,
        where=lambda plan: plan.warm and not plan.drain and plan.cluster.replicas > 1,
    )
    assert "was warmed and lacks" in said


class PatientNode(LocalNode):
    """Waits for a worker on its node as if there were no deadline."""

    def patience(self, deadline):
        return Patience(deadline + 100.0, 100.0)


def test_a_local_path_that_ignores_the_deadline_is_found():
    said = find(Parts(local=PatientNode), fault="stop", where=lambda plan: plan.cluster.local)
    assert "late by its deadline" in said
