"""Spreads that are kept: they follow what workers have, file by file, and are made when asked for."""

from hypothesis import given, settings
from hypothesis import strategies as st

from cachefs.core.blocks import FileVersionId
from cachefs.core.hints.spread import Seen, Split
from cachefs.core.hints.spreading import AWAITED, DISK, Copy, Place, Tally, parts_of, spread
from cachefs.core.manifest import FileEntry, VersionId
from cachefs.core.names import DatasetName, WorkerId
from cachefs.hints.inventory import spreads
from cachefs.hints.inventory.spreads import NEARER_SECONDS, Choice, Ground, Spreads
from cachefs.transport.runtime import ThreadRuntime

BLOCK = 100
ONE, TWO = WorkerId("one"), WorkerId("two")
PLACES = {ONE: Place("n1", "r1", "a"), TWO: Place("n2", "r1", "a")}
FILES = [
    FileEntry(f"f{number}", 250, "t", "", FileVersionId(f"{number:040}")) for number in range(5)
]


class Clock(ThreadRuntime):
    now = 1000.0

    def monotonic(self):
        return self.now


class World:
    """What workers have, with a revision as residency has it."""

    def __init__(self, *, files_limit=1000):
        self.clock = Clock()
        self.held = {}
        self.awaits = {}
        self.changes = []
        self.asked = []
        self.changed_awaits = set()
        self.spreads = Spreads(self.clock, self, block_size=BLOCK, files_limit=files_limit)
        self.spreads.ground = Ground(places=PLACES, number=1)

    def copies(self, names):
        self.asked.extend(names)
        return [
            [
                Copy(worker, how, mask)
                for how, what in ((DISK, self.held), (AWAITED, self.awaits))
                for (worker, file), mask in what.items()
                if file == name and mask
            ]
            for name in names
        ]

    def awaited(self):
        return {file for (_, file), mask in self.awaits.items() if mask}

    def hold(self, worker, number, mask):
        self.held[worker, FILES[number].file_version] = mask
        self.changes.append(FILES[number].file_version)

    def await_(self, worker, number, mask):
        self.awaits[worker, FILES[number].file_version] = mask
        self.changed_awaits.add(FILES[number].file_version)

    def follow(self, *, forgotten=0):
        changed = self.changed_awaits
        self.changed_awaits = set()

        def since(revision):
            return frozenset(self.changes[revision:]) if revision >= forgotten else None

        return self.spreads.follow(len(self.changes), since, frozenset(changed))

    def sort(self, choice, files=FILES):
        return self.spreads.sort(choice, files, origin="s3", at=len(self.changes))

    def split(self, choice, node):
        found = self.spreads.find(choice).spread
        return found.nodes.get(node, Seen(Split())).split


def choice(name="m", **fields):
    return Choice(DatasetName("d", name), VersionId("v"), **fields)


ALL = choice()


def test_what_was_never_sorted_is_not_there():
    assert World().spreads.find(ALL) is None


def test_a_choice_that_is_sorted_is_at_hand():
    world = World()
    world.hold(ONE, 0, 0b11)
    kept = world.sort(ALL)
    assert (kept.files, kept.spread.total, kept.spread.origin) == (5, 1250, "s3")
    assert world.split(ALL, "n1").nvme == 200
    assert world.split(ALL, "n1").origin == 1050


def test_a_report_is_in_the_next_spread_and_only_its_file_is_looked_at():
    world = World()
    world.sort(ALL)
    world.asked.clear()
    world.hold(TWO, 3, 0b111)
    assert world.follow()
    assert world.asked == [FILES[3].file_version]
    assert world.split(ALL, "n2").nvme == 250


def test_where_nothing_has_changed_nothing_is_counted_and_the_spread_is_the_same():
    world = World()
    world.hold(ONE, 0, 1)
    before = world.sort(ALL)
    world.asked.clear()
    assert not world.follow()
    assert world.asked == []
    assert world.spreads.find(ALL) is before


def test_too_many_changes_make_it_count_everything_anew():
    world = World()
    world.sort(ALL)
    for number in range(5):
        world.hold(ONE, number, 1)
    world.follow(forgotten=3)
    assert world.split(ALL, "n1").nvme == 500


def test_a_worker_that_is_no_member_any_more_counts_no_more():
    world = World()
    world.hold(ONE, 0, 1)
    world.sort(ALL)
    world.spreads.ground = Ground(places={TWO: PLACES[TWO]}, number=2)
    assert world.spreads.find(ALL).spread.elsewhere.split.origin == 1250


def test_what_is_on_its_way_comes_nearer_and_then_takes_as_long_again_as_it_is_late():
    world = World()
    world.await_(ONE, 0, 1)
    arrivals = {ONE: {FILES[0].file_version: 1010.0, FileVersionId("other"): 9999.0}}
    world.spreads.ground = Ground(places=PLACES, arrivals=arrivals, number=1)
    world.sort(ALL)
    seconds = []
    for now in (1000.0, 1000.0 + NEARER_SECONDS / 2, 1004.0, 1013.0):
        world.clock.now = now
        seconds.append(world.spreads.find(ALL).spread.nodes["n1"].arriving_seconds)
    assert seconds == [10.0, 10.0, 6.0, 3.0]


def test_what_is_awaited_no_more_is_on_its_way_no_more():
    world = World()
    world.await_(ONE, 0, 0b111)
    world.sort(ALL)
    assert world.split(ALL, "n1").arriving == 250
    world.await_(ONE, 0, 0)
    world.hold(ONE, 0, 0b011)
    world.follow()
    assert world.split(ALL, "n1") == Split(nvme=200, origin=1050)


def test_what_others_came_to_await_while_a_choice_was_sorted_is_counted():
    world = World()
    plain = world.copies

    def copies(names):
        found = plain(names)
        if world.asked == [each.file_version for each in FILES]:
            world.await_(ONE, 4, 0b1)
            world.follow()
        return found

    world.copies = copies
    world.sort(ALL)
    assert world.split(ALL, "n1").arriving == 100


def test_what_labels_assign_is_added():
    world = World()
    added = Split(nvme=1250)
    world.spreads.ground = Ground(
        places=PLACES,
        adjusted=lambda _, found: spread(Tally(found.total), {}, origin=str(added.nvme)),
        number=2,
    )
    assert world.sort(ALL).spread.origin == "1250"


def test_the_revision_grows_only_with_what_is_found():
    world = World()
    first = world.sort(ALL).revision
    world.spreads.ground = Ground(places=PLACES, number=2)
    assert world.spreads.find(ALL).revision == first
    world.hold(ONE, 0, 1)
    world.follow()
    assert world.spreads.find(ALL).revision > first


def test_a_spread_that_takes_long_is_made_behind_who_asks(monkeypatch):
    monkeypatch.setattr(spreads, "QUICK_SECONDS", -1.0)
    world = World()
    before = world.sort(ALL)
    world.hold(ONE, 0, 1)
    world.follow()
    assert world.spreads.find(ALL) is before
    assert world.spreads.make_slow_ones()
    assert world.split(ALL, "n1").nvme == 100
    assert not world.spreads.make_slow_ones()


def test_what_was_asked_for_longest_ago_is_forgotten_first():
    world = World(files_limit=10)
    one, two, three = (choice(name) for name in ("one", "two", "three"))
    world.sort(one)
    world.sort(two)
    world.spreads.find(one)
    world.sort(three)
    assert [each in world.spreads for each in (one, two, three)] == [True, False, True]
    assert (len(world.spreads), world.spreads.files) == (2, 10)


def test_a_choice_larger_than_all_may_be_is_kept_alone():
    world = World(files_limit=3)
    world.sort(choice("small"), FILES[:1])
    world.sort(ALL)
    assert len(world.spreads) == 1
    assert ALL in world.spreads


def test_sorting_again_counts_the_files_once():
    world = World()
    world.sort(ALL)
    world.sort(ALL)
    assert world.spreads.files == 5


def test_choices_can_be_forgotten_by_when_they_were_asked_for():
    world = World()
    one, two = choice("one"), choice("two")
    world.sort(one)
    world.sort(two)
    world.spreads.find(two)
    world.spreads.forget(lambda _, asked_at: asked_at < 0)
    assert one not in world.spreads
    assert two in world.spreads
    assert world.spreads.files == 5


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["hold", "await", "follow", "forget", "find"]),
        st.sampled_from([ONE, TWO]),
        st.integers(0, 4),
        st.integers(0, 7),
    ),
    max_size=30,
)


@given(STEPS)
@settings(max_examples=60, deadline=None)
def test_after_whatever_happened_a_spread_is_that_of_what_workers_have(steps):
    world = World()
    world.sort(ALL)
    for step, worker, number, mask in steps:
        if step == "hold":
            world.hold(worker, number, mask)
        elif step == "await":
            world.await_(worker, number, mask)
        elif step == "find":
            world.spreads.find(ALL)
        else:
            world.follow(forgotten=len(world.changes) if step == "forget" else 0)
    world.follow()
    names = [each.file_version for each in FILES]
    fresh = Tally(1250)
    for copies in world.copies(names):
        fresh.add(parts_of(250, BLOCK, copies))
    world.clock.now += 1
    arrivals = dict.fromkeys(PLACES, 0.0)
    known = {worker: dict.fromkeys(names, world.clock.now) for worker in PLACES}
    world.spreads.ground = Ground(places=PLACES, arrivals=known, number=3)
    assert world.spreads.find(ALL).spread == spread(fresh, PLACES, origin="s3", seconds=arrivals)
