"""``process``: a program runs once, whoever looks after it, and nothing of it is left behind."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from cachefs.dataflow.steps.processing import ProcessStep
from cachefs.dataflow.steps.programs.inrooms import RoomPrograms
from cachefs.dataflow.steps.programs.rooms import RUNNER, ask_to_stop, look, tail
from cachefs.errors import (
    CapacityError,
    ConfigError,
    DeadlineError,
    FlowError,
    StepCancelledError,
    StepTransientError,
)
from tests.integration.flows.places import places_in, until
from tests.unit.dataflow.steps.contexts import RUNTIME, Steps, carry_out

SH = ("/bin/sh", "-c")


@pytest.fixture
def open_places(tmp_path):
    with places_in(tmp_path) as open_:
        yield open_


@pytest.fixture
def places(open_places):
    return open_places()


def sh(text, **arguments):
    return {"command": [*SH, text], **arguments}


def process_in(places):
    """Return the kind of step as one coordinator has it."""
    return ProcessStep(RoomPrograms(places))


def alive(file):
    """Return whether the process lives whose id a program has written to a file."""
    pid = int(file.read_text())
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def in_thread(body):
    """Run a body that is to raise; return its thread and what it raised."""
    raised = []

    def guarded():
        try:
            body()
        except Exception as error:  # noqa: BLE001 - whatever it is, the test looks at it
            raised.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()
    return thread, raised


def test_a_program_that_ends_well_is_a_success_and_says_what_it_found(places):
    text = """echo one; echo two >&2; echo '{"accuracy": 0.9}' > $CACHEFS_OUTPUTS"""
    observed = carry_out(process_in(places), Steps().attempt(), sh(text))
    assert observed.outputs == {"accuracy": 0.9, "exit_code": 0, "log": "one\ntwo"}


def test_arguments_go_through_no_shell(places):
    arguments = {"command": ["printf", "%s|", "a b", "$HOME", "; ls", "*"]}
    assert carry_out(process_in(places), Steps().attempt(), arguments).outputs["log"] == (
        "a b|$HOME|; ls|*|"
    )


@pytest.mark.parametrize(
    ("text", "arguments", "error", "match"),
    [
        ("echo bad >&2; exit 3", {}, FlowError, r"ended with 3.*bad"),
        ("kill -9 $$", {}, FlowError, "by signal 9"),
        ("exit 75", {}, StepTransientError, "ended with 75"),
        ("exit 4", {"retry_codes": [4]}, StepTransientError, "ended with 4"),
        ("exit 75", {"retry_codes": []}, FlowError, "ended with 75"),
        ("exit 0", {"success_codes": [7]}, FlowError, "ended with 0"),
        ("echo [] > $CACHEFS_OUTPUTS", {}, FlowError, "cannot be used"),
        ("echo '{\"log\": 1}' > $CACHEFS_OUTPUTS", {}, FlowError, "cannot be used"),
        ("echo '{' > $CACHEFS_OUTPUTS", {}, FlowError, "not JSON"),
        ("head -c 70000 /dev/zero > $CACHEFS_OUTPUTS", {}, CapacityError, "more than"),
    ],
)
def test_how_a_program_ends_says_what_becomes_of_the_step(places, text, arguments, error, match):
    with pytest.raises(error, match=match) as raised:
        carry_out(process_in(places), Steps().attempt(), sh(text, **arguments))
    assert raised.value.retryable == (error is StepTransientError)


def test_a_program_that_there_is_not_is_said_so(places):
    for command in (["/no/such/program"], ["no-such-program"]):
        with pytest.raises(FlowError, match=r"cannot be started.*No such file"):
            carry_out(process_in(places), Steps(command[0][-4:]).attempt(), {"command": command})
    with pytest.raises(FlowError, match="cannot be started"):
        carry_out(process_in(places), Steps("w").attempt(), sh("true", workdir="/no/such/folder"))


def test_a_successor_finds_the_program_running_and_starts_it_no_second_time(open_places, tmp_path):
    step = Steps()
    starts = tmp_path / "starts"
    arguments = sh(f"echo x >> {starts}; sleep 0.5; echo done")
    first, context = open_places(), step.attempt()
    thread, raised = in_thread(lambda: carry_out(process_in(first), context, arguments))
    until(starts.exists)
    context.abandon()
    thread.join()
    assert isinstance(raised[0], StepCancelledError)
    first.rooms.close()
    observed = carry_out(process_in(open_places()), step.attempt(), arguments)
    assert observed.outputs["log"] == "done"
    assert starts.read_text() == "x\n"


def test_a_successor_finds_the_program_ended(open_places, tmp_path):
    step = Steps()
    arguments = sh(f"echo x >> {tmp_path / 'starts'}")
    carry_out(process_in(open_places()), step.attempt(), arguments)
    observed = process_in(open_places()).observe(step.attempt(), arguments)
    assert observed.done
    assert (tmp_path / "starts").read_text() == "x\n"


def test_of_many_that_begin_one_program_at_once_one_starts_it(open_places, tmp_path):
    context = Steps().attempt()
    arguments = sh(f"echo x >> {tmp_path / 'starts'}; sleep 0.2")
    kinds = [process_in(open_places()) for _ in range(8)]
    threads = [in_thread(lambda kind=kind: carry_out(kind, context, arguments)) for kind in kinds]
    for thread, raised in threads:
        thread.join()
        assert not raised
    assert (tmp_path / "starts").read_text() == "x\n"


def test_a_runner_that_comes_late_starts_nothing_again(places, tmp_path):
    context = Steps().attempt()
    carry_out(process_in(places), context, sh(f"echo x >> {tmp_path / 'starts'}"))
    late = [sys.executable, "-I", "-S", str(RUNNER), str(places.room(context))]
    subprocess.run(late, check=True, timeout=10)
    assert (tmp_path / "starts").read_text() == "x\n"


def test_another_attempt_runs_the_program_again(places, tmp_path):
    step, file = Steps(), tmp_path / "tried"
    arguments = sh(f"test -e {file} || {{ touch {file}; exit 75; }}")
    with pytest.raises(StepTransientError):
        carry_out(process_in(places), step.attempt(1), arguments)
    with pytest.raises(StepTransientError):  # the same attempt is still what it was
        carry_out(process_in(places), step.attempt(1), arguments)
    assert carry_out(process_in(places), step.attempt(2), arguments).done


def test_another_attempt_ends_what_the_one_before_it_left_running(places, tmp_path):
    step, pid = Steps(), tmp_path / "pid"
    first = step.attempt(1)
    long = sh(f"echo $$ > {pid}; sleep 60")
    thread, _ = in_thread(lambda: carry_out(process_in(places), first, long))
    until(lambda: pid.exists() and pid.read_text())
    first.abandon()
    thread.join()
    assert alive(pid)
    carry_out(process_in(places), step.attempt(2), sh("true"))
    assert not alive(pid)


STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = os.fork()
if child == 0:
    os.setsid()
    if os.fork() == 0:
        open(sys.argv[1], "w").write(str(os.getpid()))
        time.sleep(600)
    os._exit(0)
open(sys.argv[2], "w").write(str(os.getpid()))
time.sleep(600)
"""


@pytest.mark.parametrize("how", ["cancel", "time"])
def test_all_that_a_program_has_started_ends_within_two_seconds(places, tmp_path, how):
    daemon, main = tmp_path / "daemon", tmp_path / "main"
    context = Steps().attempt(seconds=2.0 if how == "time" else 60.0)
    command = [sys.executable, "-c", STUBBORN, str(daemon), str(main)]
    step = process_in(places)
    thread, raised = in_thread(lambda: carry_out(step, context, {"command": command}))
    until(lambda: all(file.exists() and file.read_text() for file in (daemon, main)))
    assert alive(daemon)
    if how == "cancel":
        context.stop()
        began = RUNTIME.monotonic()
    else:
        began = context.deadline
    thread.join()
    assert RUNTIME.monotonic() - began < 2.0
    assert isinstance(raised[0], StepCancelledError if how == "cancel" else DeadlineError)
    assert not alive(main)
    assert not alive(daemon)


def test_a_program_that_ends_by_itself_leaves_nothing_behind(places, tmp_path):
    pid = tmp_path / "pid"
    text = f"setsid sleep 600 & echo $! > {pid}; exit 0"
    assert carry_out(process_in(places), Steps().attempt(), sh(text)).done
    assert not alive(pid)


def test_if_the_runner_is_killed_so_is_the_program_and_the_step_may_be_tried_again(
    places, tmp_path
):
    context, pid = Steps().attempt(), tmp_path / "pid"
    arguments = sh(f"setsid sleep 600 & echo $! > {pid}; sleep 600")
    step = process_in(places)
    thread, raised = in_thread(lambda: carry_out(step, context, arguments))
    until(lambda: pid.exists() and pid.read_text())
    room = places.room(context)
    os.kill(next(iter(places.rooms._runners.values())).pid, signal.SIGKILL)
    thread.join()
    assert isinstance(raised[0], StepTransientError)
    assert look(room).standing == "lost"
    assert alive(pid)  # it had left the group, and nobody was there to end it
    places.rooms.stop([room])
    assert not alive(pid)
    assert look(room).stopped


def test_a_program_that_was_stopped_before_it_began_never_runs(places, tmp_path):
    context = Steps().attempt()
    room = places.room(context)
    room.mkdir(parents=True)
    ask_to_stop(room)
    with pytest.raises(StepTransientError, match="from outside"):
        carry_out(process_in(places), context, sh(f"touch {tmp_path / 'ran'}"))
    assert not (tmp_path / "ran").exists()


def test_a_tethered_program_ends_with_the_process_that_began_it(tmp_path):
    text = f"""
        import os
        from pathlib import Path
        from cachefs.dataflow.steps.programs.rooms import Program, Rooms
        from cachefs.transport.runtime import ThreadRuntime
        program = Program(command=("/bin/sh", "-c", "echo $$ > {tmp_path}/pid; sleep 600"),
                          workdir="/", environment=dict(os.environ), tethered=True)
        Rooms(ThreadRuntime()).begin(Path("{tmp_path}/room"), program)
        input()
    """
    code = textwrap.dedent(text)
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as coordinator:
        pid = tmp_path / "pid"
        until(lambda: pid.exists() and pid.read_text())
        assert alive(pid)
        coordinator.kill()
    until(lambda: not alive(pid))
    assert until(lambda: look(tmp_path / "room").stopped)


def test_secrets_reach_a_program_by_reference_only_and_no_file_has_them(places, tmp_path):
    arguments = sh(
        'test ${#TOKEN} = 6 && test -z "$HF_TOKEN$SECRET" && test "$MODE" = fast',
        env={"MODE": "fast"},
        secrets={"TOKEN": "env:SECRET"},
    )
    assert carry_out(process_in(places), Steps().attempt(), arguments).done
    for file in (tmp_path / "programs").rglob("*"):
        assert file.is_dir() or b"s3cr3t" not in file.read_bytes()
    arguments = sh("true", secrets={"TOKEN": "env:NOTHING"})
    with pytest.raises(ConfigError, match="no such secret"):
        carry_out(process_in(places), Steps("b").attempt(), arguments)


def test_a_program_finds_cachefs_and_itself(places, tmp_path):
    names = "$CACHEFS_STATE $CACHEFS_RUN_ID $CACHEFS_STEP $CACHEFS_ATTEMPT $CACHEFS_NAMESPACE"
    observed = carry_out(process_in(places), Steps().attempt(2), sh(f"echo {names}"))
    assert observed.outputs["log"] == f"{tmp_path / 'state'} run-1 step 2 team"


def test_logs_are_bounded_and_keep_the_newest(open_places):
    places = open_places(log_bytes=10_000)
    context = Steps().attempt()
    carry_out(process_in(places), context, sh("seq 1 20000"))
    room = places.room(context)
    assert sum(len((room / name).read_bytes()) for name in ("log", "log.1")) <= 20_000
    assert tail(room, 100).endswith("19999\n20000\n")
    assert tail(room, 12_000).splitlines()[0].isdecimal()


def test_what_undoes_a_program_is_another_program(places, tmp_path):
    step = Steps()
    arguments = sh("true")
    carry_out(process_in(places), step.attempt(), arguments)
    undo = step.attempt(2, undo=True)
    process_in(places).compensate(undo, arguments, {"command": [*SH, f"touch {tmp_path}/undone"]})
    assert (tmp_path / "undone").exists()
    with pytest.raises(FlowError, match="ended with 1"):
        process_in(places).compensate(
            step.attempt(3, undo=True), arguments, {"command": [*SH, "exit 1"]}
        )


@pytest.mark.parametrize(
    ("settings", "match"),
    [({"allowed": False}, "runs no programs"), ({"folder": None}, "no folder")],
)
def test_where_programs_are_not_allowed_none_runs(open_places, settings, match):
    with pytest.raises(ConfigError, match=match):
        carry_out(process_in(open_places(**settings)), Steps().attempt(), sh("true"))


def test_mounts_are_refused_where_nothing_can_be_mounted(places):
    arguments = sh("true", mounts=[{"dataset": "llama", "path": "/model"}])
    with pytest.raises(ConfigError, match="nothing can be mounted"):
        carry_out(process_in(places), Steps().attempt(), arguments)


def test_rooms_of_runs_that_are_long_over_are_removed(open_places, tmp_path):
    places = open_places(kept_seconds=100.0)
    old, new = Steps(run="old"), Steps(run="new")
    carry_out(process_in(places), old.attempt(), sh("true"))
    for file in (tmp_path / "programs" / "runs" / "old").rglob("*"):
        os.utime(file, (1000, 1000))
    places._trimmed_at -= 4000.0
    carry_out(process_in(places), new.attempt(), sh("true"))
    assert [one.name for one in (tmp_path / "programs" / "runs").iterdir()] == ["new"]
