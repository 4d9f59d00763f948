"""The contract of :class:`cachefs.dataflow.steps.programs.running.Programs`.

Both worlds are the same to a step: rooms of this machine, and rows that somebody else carries out.
"""

import threading
from pathlib import Path

import pytest

from cachefs.coordinator.store.engine import Store
from cachefs.dataflow.handing.programs import HandedOutPrograms
from cachefs.dataflow.steps.processing import Codes, judge, run
from cachefs.dataflow.steps.programs.inrooms import RoomPrograms
from cachefs.dataflow.steps.programs.running import Wanted
from cachefs.errors import FlowError, StepCancelledError
from tests.integration.flows.executors import Executor, add_run
from tests.integration.flows.places import places_in, until
from tests.unit.dataflow.steps.contexts import RUNTIME, Steps

SH = ("/bin/sh", "-c")


class Rooms:
    """Programs of this machine."""

    def __init__(self, open_places):
        self._open_places = open_places

    def open(self):
        """Return the programs as one coordinator has them, or its successor."""
        return RoomPrograms(self._open_places())


class HandedOut:
    """Programs that an executor runs."""

    def __init__(self, store):
        self._store = store

    def open(self):
        return HandedOutPrograms(self._store, RUNTIME, executor_seconds=10.0)


@pytest.fixture(params=["rooms", "handed-out"])
def world(request, tmp_path):
    if request.param == "rooms":
        with places_in(tmp_path) as open_:
            yield Rooms(open_)
        return
    store = Store(f"sqlite:///{tmp_path / 'store.db'}")
    add_run(store)
    executor = Executor(store, tmp_path / "programs")
    try:
        yield HandedOut(store)
    finally:
        executor.close()
        store.close()


def sh(text, **more):
    return Wanted(command=(*SH, text), image="tools:1", **more)


def ended(programs, context, **part):
    return until(lambda: (found := programs.look(context, **part)).standing == "ended" and found)


def alive(file):
    try:
        state = (
            Path(f"/proc/{int(file.read_text())}/stat").read_text().rpartition(")")[2].split()[0]
        )
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def test_what_was_never_begun_is_not_there(world):
    programs, context = world.open(), Steps().attempt()
    assert programs.look(context).standing == "none"
    assert programs.tail(context, 100) == ""
    assert programs.outputs(context) == b""


def test_a_program_runs_and_its_end_is_kept_with_what_it_wrote(world):
    programs, context = world.open(), Steps().attempt()
    programs.begin(context, sh("echo one; echo two; echo '{\"a\": 1}' > $CACHEFS_OUTPUTS; exit 3"))
    found = ended(programs, context)
    assert (found.code, found.stopped, found.failure) == (3, False, "")
    assert programs.tail(context, 100) == "one\ntwo\n"
    assert programs.tail(context, 6) == "two\n"
    assert programs.outputs(context) == b'{"a": 1}\n'
    assert world.open().look(context).code == 3


def test_it_is_told_what_it_is_a_part_of(world):
    programs, context = world.open(), Steps().attempt(2)
    names = "$CACHEFS_RUN_ID $CACHEFS_STEP $CACHEFS_ATTEMPT $CACHEFS_NAMESPACE $OWN"
    run(programs, context, sh(f"echo {names}", variables={"OWN": "x y"}))
    assert programs.tail(context, 100) == "run-1 step 2 team x y\n"


def test_begun_many_times_by_many_it_runs_once(world, tmp_path):
    context, wanted = Steps().attempt(), sh(f"echo x >> {tmp_path / 'starts'}; sleep 0.3")
    threads = [
        threading.Thread(target=world.open().begin, args=(context, wanted)) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    programs = world.open()
    ended(programs, context)
    programs.begin(context, wanted)
    assert ended(programs, context).code == 0
    assert (tmp_path / "starts").read_text() == "x\n"


def test_a_successor_finds_it_running(world):
    first, context = world.open(), Steps().attempt()
    first.begin(context, sh("sleep 0.5; exit 7"))
    until(lambda: first.look(context).standing == "running")
    assert ended(world.open(), context).code == 7


def test_another_attempt_begins_when_the_one_before_it_is_over(world, tmp_path):
    programs, steps, pid = world.open(), Steps(), tmp_path / "pid"
    programs.begin(steps.attempt(1), sh(f"echo $$ > {pid}; exec sleep 600"))
    until(lambda: pid.exists() and pid.read_text())
    programs.begin(steps.attempt(2), sh(f"kill -0 $(cat {pid}) 2>/dev/null && exit 9; exit 0"))
    assert ended(programs, steps.attempt(2)).code == 0
    assert not alive(pid)
    assert programs.look(steps.attempt(1)).stopped


def test_stopped_it_ends_with_all_that_it_has_started(world, tmp_path):
    programs, context, pid = world.open(), Steps().attempt(), tmp_path / "pid"
    programs.begin(context, sh(f"sleep 600 & echo $! > {pid}; wait"))
    until(lambda: pid.exists() and pid.read_text())
    programs.stop(context)
    assert ended(programs, context).stopped
    until(lambda: not alive(pid))


def test_what_was_stopped_before_it_began_never_begins(world, tmp_path):
    programs, context = world.open(), Steps().attempt()
    programs.stop(context)  # nothing is there
    programs.begin(context, sh(f"sleep 0.2; echo x >> {tmp_path / 'ran'}"))
    programs.stop(context)
    assert ended(programs, context).stopped
    programs.begin(context, sh(f"echo x >> {tmp_path / 'ran'}"))
    assert ended(programs, context).stopped
    assert not (tmp_path / "ran").exists()


def test_parts_of_an_attempt_are_programs_of_their_own(world):
    programs, context = world.open(), Steps().attempt()
    for part, code in (("health-0", 0), ("health-1", 4)):
        found = run(programs, context, sh(f"echo {part}; exit {code}"), part=part)
        assert found.code == code
        assert programs.tail(context, 100, part=part) == f"{part}\n"
    with pytest.raises(FlowError, match="health-1"):
        judge(programs, context, found, Codes(), part="health-1")


def test_what_cannot_be_started_says_why(world):
    programs, context = world.open(), Steps().attempt()
    programs.begin(context, Wanted(command=("/no/such/program",), image="tools:1"))
    assert "No such file" in ended(programs, context).failure


def test_a_cancelled_step_ends_its_program_and_an_abandoned_one_does_not(world):
    programs, steps = world.open(), {name: Steps(name) for name in ("cancelled", "abandoned")}
    for name, step in steps.items():
        context = step.attempt()
        raised = []
        thread = threading.Thread(target=_expect_cancel, args=(programs, context, raised))
        thread.start()
        until(lambda context=context: programs.look(context).standing == "running")
        (context.stop if name == "cancelled" else context.abandon)()
        thread.join()
        assert raised
    assert ended(programs, steps["cancelled"].attempt()).stopped
    assert programs.look(steps["abandoned"].attempt()).standing == "running"
    programs.stop(steps["abandoned"].attempt())


def _expect_cancel(programs, context, raised):
    try:
        run(programs, context, sh("exec sleep 600"))
    except StepCancelledError as error:
        raised.append(error)
