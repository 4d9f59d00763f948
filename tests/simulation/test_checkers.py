"""Each checker finds the bug that it is there for, within some seeds."""

from dataclasses import replace
from random import Random

from cachefs.client.reader import Reader
from cachefs.core.blocks import BlockId, FileVersionId
from cachefs.testing.simulation.cluster import Parts
from cachefs.workers.filling.filler import Filler
from cachefs.workers.proving.prover import Prover
from cachefs.workers.storage.store import TieredStore
from tests.simulation.finding import find, parts_of_worker


class EqualsAll(bytes):
    """A digest that every block matches."""

    __slots__ = ()

    def __eq__(self, other):
        return True

    __hash__ = None


class TrustingReader(Reader):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.fetcher._digester = lambda block: EqualsAll()


def test_a_reader_that_does_not_verify_is_found():
    assert "wrong bytes" in find(Parts(reader=TrustingReader), fault="liar")


class VersionBlindReader(Reader):
    """Looks into its memory without asking which version a block is of."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        find, obtain = self.cache.find, self.cache.obtain

        def blind(block):
            return BlockId(FileVersionId("any"), block.index)

        self.cache.find = lambda block, *rest: find(blind(block), *rest)
        self.cache.obtain = lambda block, *rest, **named: obtain(blind(block), *rest, **named)


def test_a_reader_that_mixes_files_is_found():
    assert "wrong bytes" in find(Parts(reader=VersionBlindReader))


class PatientReader(Reader):
    def __init__(self, runtime, config, *args, **kwargs):
        patient = replace(config, deadline_seconds=3 * config.deadline_seconds)
        super().__init__(runtime, patient, *args, **kwargs)


def test_a_reader_that_ignores_its_deadline_is_found():
    assert "late by its deadline" in find(Parts(reader=PatientReader), fault="origin")


class LateReader(Reader):
    """Goes on writing into the caller's buffer after the read has returned."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        fetch = self.fetcher.fetch

        def fetch_and_write_later(file, index, into, **rest):
            served = fetch(file, index, into, **rest)

            def write():
                self.runtime.sleep(0.3)
                into[0] ^= 1

            self.runtime.start("late", write)
            return served

        self.fetcher.fetch = fetch_and_write_later


def test_a_reader_that_writes_after_its_return_is_found():
    assert "after its read had returned" in find(Parts(reader=LateReader), calm=True)


class FillingHedgesReader(Reader):
    """Makes hedges fill what they do not find."""

    def __init__(self, *args, blocks, **kwargs):
        super().__init__(*args, blocks=blocks, **kwargs)
        fetch = blocks.fetch
        blocks.fetch = lambda member, request: fetch(member, replace(request, only_cached=False))


def test_a_reader_whose_hedges_cause_fills_is_found():
    assert "from the origin" in find(Parts(reader=FillingHedgesReader), calm=True)


class MiscountingReader(Reader):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        delivered = self.counters.delivered
        self.counters.delivered = lambda deliveries: delivered(list(deliveries)[:1])


def test_a_reader_that_miscounts_is_found():
    assert "bytes by source" in find(Parts(reader=MiscountingReader))


class UnlockedReader(Reader):
    """Raises something that is none of our errors."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        random = Random(1)
        run = self.lanes.run

        def run_or_fail(fetches, *, deadline):
            if random.random() < 0.1:
                raise KeyError("a bug")
            return run(fetches, deadline=deadline)

        self.lanes.run = run_or_fail


def test_a_reader_that_raises_what_is_none_of_our_errors_is_found():
    assert "KeyError" in find(Parts(reader=UnlockedReader))


class ManyFlightsFiller(Filler):
    """Does not find the fill that is under way."""

    def _join(self, file, index, terms):
        with self._lock:
            self._fills.pop(BlockId(file.entry.file_version, index), None)
        return super()._join(file, index, terms)


def test_a_filler_without_single_flight_is_found():
    assert "from the origin" in find(parts_of_worker(filler=ManyFlightsFiller), calm=True)


class InsistentFiller(Filler):
    """Asks an origin in trouble again and again."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._bringer._config = replace(self._config, attempts_limit=9, backoff_seconds=0.001)


def test_a_filler_that_storms_the_origin_is_found():
    assert "times in" in find(parts_of_worker(filler=InsistentFiller), fault="origin")


class ForgettingFiller(Filler):
    """Does not tell those who wait that the fill has ended."""

    def _end(self, fill, error):
        super()._end(fill, error)
        fill.ended = False


def test_a_filler_that_loses_a_wake_up_is_found():
    assert "failed without any fault" in find(parts_of_worker(filler=ForgettingFiller), calm=True)


class FailingFiller(Filler):
    """Meets an exception that nobody expected."""

    def _fill_now(self, fill):
        if fill.index == 3:
            raise ZeroDivisionError
        super()._fill_now(fill)


def test_an_unexpected_exception_in_a_worker_is_found_although_it_is_only_logged():
    assert "ZeroDivisionError" in find(parts_of_worker(filler=FailingFiller), calm=False)


class GreedyStore(TieredStore):
    """Believes to have more room than it has."""

    def __init__(self, tiers, **kwargs):
        greedy = [replace(tier, capacity_bytes=2 * tier.capacity_bytes) for tier in tiers]
        super().__init__(greedy, **kwargs)


def test_a_store_that_exceeds_its_capacity_is_found():
    assert "bytes of" in find(parts_of_worker(store=GreedyStore), calm=False)


class LeakingStore(TieredStore):
    """Loses a reservation now and then."""

    def reserve(self, file, index):
        if index == 1 and not hasattr(self, "leaked"):
            self.leaked = super().reserve(file, index)
        return super().reserve(file, index)


def test_a_store_that_leaks_a_reservation_is_found():
    assert "reserved" in find(parts_of_worker(store=LeakingStore), calm=True)


class DeadlockingStore(TieredStore):
    """Takes two locks in no order."""

    def holds(self, file_version, index):
        other = self.__dict__.setdefault("other", self._runtime.condition())
        if index % 2:
            with other, self._lock:
                pass
        else:
            with self._lock, other:
                pass
        return super().holds(file_version, index)


def test_a_deadlock_is_found():
    said = find(parts_of_worker(store=DeadlockingStore))
    assert "without any fault" in said or "after all was mended" in said or "Deadlock" in said


class CredulousProver(Prover):
    """Delivers what it has, whatever is known of the whole file."""

    def is_needed(self, file):
        return False


def test_a_worker_that_does_not_prove_is_found():
    assert "wrong bytes" in find(parts_of_worker(prover=CredulousProver), fault="lie")
