"""Warm-ups: assignments, plans and progress."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from cachefs.core import placement
from cachefs.core.blocks import BlockId, FileVersionId, block_count
from cachefs.core.jobs import (
    Assignment,
    Plan,
    WantedFile,
    WarmJob,
    advance,
    assign,
    end,
    plan,
    total,
)
from cachefs.core.manifest import VersionId
from cachefs.core.membership import Member
from cachefs.core.names import DatasetName, WorkerId
from cachefs.core.residency import Holding, ResidencyIndex, full_mask

BLOCK = 100
FILES = tuple(
    WantedFile(FileVersionId(f"{number:040x}"), size)
    for number, size in enumerate((0, 1, 100, 950, 2000))
)
BLOCKS, BYTES = total(FILES, block_size=BLOCK)
JOB = WarmJob(
    id="1",
    dataset=DatasetName("default", "d"),
    version=VersionId("0" * 40),
    paths=(),
    state="running",
    bytes_total=BYTES,
    blocks_total=BLOCKS,
)


def make_member(worker: str, **fields: object) -> Member:
    plain = Member(
        worker=WorkerId(worker),
        incarnation="1",
        node="n",
        zone="",
        pool="default",
        weight=1.0,
        data_address="",
        control_address="",
        socket_path="",
    )
    return replace(plain, **fields)  # type: ignore[arg-type]


MEMBERS = tuple(make_member(name) for name in ("a", "b", "c"))


def assigned(members: tuple[Member, ...] = MEMBERS, replicas: int = 1) -> Assignment:
    return assign(FILES, members, pool="default", replicas=replicas, block_size=BLOCK)


def holding_all(assignment: Assignment) -> ResidencyIndex:
    index = ResidencyIndex()
    for worker, wanted in assignment.by_worker.items():
        index.set_known(worker, known=True)
        for file_version, mask in wanted.items():
            index.put(Holding(worker, file_version, "disk", mask))
    return index


def test_every_block_is_assigned_to_its_owners() -> None:
    assignment = assigned(replicas=2)
    for file in FILES:
        for index in range(block_count(file.size, BLOCK)):
            owners = placement.owners(
                BlockId(file.file_version, index), MEMBERS, pool="default", replicas=2
            )
            having = {
                worker
                for worker, wanted in assignment.by_worker.items()
                if wanted.get(file.file_version, 0) >> index & 1
            }
            assert having == {owner.worker for owner in owners}


def test_other_pools_and_draining_members_are_assigned_nothing() -> None:
    members = (MEMBERS[0], make_member("x", pool="other"), make_member("y", draining=True))
    assert set(assigned(members).by_worker) == {"a"}


def test_without_workers_nothing_is_done_and_nothing_is_missing() -> None:
    for members in ((), (make_member("a", draining=True),), (make_member("a", pool="other"),)):
        found = plan(FILES, assigned(members), ResidencyIndex(), block_size=BLOCK)
        assert found == Plan(0, 0, {}, complete=False)


def test_a_dataset_of_empty_files_is_done_at_once() -> None:
    found = plan([WantedFile(FILES[0].file_version, 0)], assigned(), ResidencyIndex(), block_size=1)
    assert found.complete


def test_the_plan_is_complete_when_all_owners_hold_all() -> None:
    assignment = assigned(replicas=2)
    found = plan(FILES, assignment, holding_all(assignment), block_size=BLOCK)
    assert found == Plan(BLOCKS, BYTES, {}, complete=True)


def test_a_block_counts_only_when_every_owner_holds_it() -> None:
    assignment = assigned(replicas=3)
    index = holding_all(assignment)
    index.put(Holding(WorkerId("b"), FILES[3].file_version, "disk", full_mask(10) & ~(1 << 9)))
    found = plan(FILES, assignment, index, block_size=BLOCK)
    assert found.missing == {"b": 1}
    assert (found.blocks_done, found.bytes_done) == (BLOCKS - 1, BYTES - 50)
    assert not found.complete


def test_a_copy_on_a_worker_that_does_not_own_the_block_does_not_count() -> None:
    assignment = assigned()
    index = ResidencyIndex()
    stranger = WorkerId("stranger")
    index.set_known(stranger, known=True)
    for file in FILES:
        index.put(Holding(stranger, file.file_version, "disk", full_mask(20)))
    assert plan(FILES, assignment, index, block_size=BLOCK).blocks_done == 0


def test_a_job_waits_runs_and_is_done_exactly() -> None:
    half = advance(JOB, Plan(5, 500), wall=1.0)
    assert (half.state, half.blocks_done, half.bytes_done) == ("running", 5, 500)
    done = advance(half, Plan(BLOCKS, BYTES, complete=True), wall=2.0)
    assert (done.state, done.blocks_done, done.bytes_done) == ("done", BLOCKS, BYTES)
    assert done.ended_at == 2.0


@given(st.lists(st.integers(0, BLOCKS)))
def test_progress_never_runs_backwards(counts: list[int]) -> None:
    job = JOB
    for count in counts:
        before, job = job, advance(job, Plan(count, count), wall=0.0)
        assert job.blocks_done >= before.blocks_done
        assert job.bytes_done >= before.bytes_done


def test_an_ended_job_never_changes_again() -> None:
    cancelled = end(JOB, "cancelled", wall=3.0)
    assert advance(cancelled, Plan(BLOCKS, BYTES, complete=True), wall=4.0) is cancelled
    assert end(cancelled, "failed", wall=4.0, failure="x") is cancelled
