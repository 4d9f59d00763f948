"""Copies that go wrong in between: what is at the destination in the end, and what it cost to get there."""

import hashlib
import json
import os
import subprocess
import sys
import threading
import uuid
from pathlib import Path

import fsspec
import pytest

from cachefs.config.schema import ClusterConfig, OriginConfig
from cachefs.config.secrets import Secret
from cachefs.dataflow.copying.carrying import sizes
from cachefs.dataflow.copying.datasets import DataPlane
from cachefs.dataflow.copying.ends import Place, Sites
from cachefs.dataflow.spec import kinds
from cachefs.dataflow.steps.migrating import MigrateStep
from cachefs.errors import (
    CapacityError,
    ConfigError,
    IntegrityError,
    OriginChangedError,
    OriginContentError,
    StepCancelledError,
)
from cachefs.testing.faulty_origin import Fault, FaultyOrigin
from cachefs.testing.hub import FakeHub
from cachefs.testing.memory.cache import MemoryCache
from cachefs.testing.s3 import s3_server
from tests.unit.dataflow.steps.contexts import RUNTIME, Steps, carry_out

MIB = 1024 * 1024
PART = 5 * MIB
"""S3's smallest."""
CONFIG = OriginConfig(timeout_seconds=5, deadline_seconds=10)
SMALL = {"config.json": b'{"a": 1}', "deep/empty": b"", "deep/b.txt": b"text"}


def large(name="model", size=3 * PART + 7):
    return hashlib.shake_128(name.encode()).digest(size)


FILES = {**SMALL, "model.safetensors": large()}


@pytest.fixture(autouse=True)
def parts_of_five(monkeypatch):
    monkeypatch.setattr("cachefs.dataflow.copying.ends.PART_BYTES", PART)


def make_step():
    cache = MemoryCache()
    plane = DataPlane(cache, ClusterConfig(), Secret("token"))
    return MigrateStep(cache, Sites(cache, CONFIG, plane))


def files_below(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def put(folder: Path, files) -> str:
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return f"file://{folder}"


@pytest.fixture(scope="module")
def s3():
    with s3_server() as server:
        yield server


@pytest.fixture
def bucket(s3):
    name = f"bucket-{uuid.uuid4().hex[:8]}"
    s3.make_bucket(name)
    return name


def objects(s3, bucket):
    found = s3.client.list_objects_v2(Bucket=bucket).get("Contents", ())
    return {
        one["Key"]: s3.client.get_object(Bucket=bucket, Key=one["Key"])["Body"].read()
        for one in found
    }


@pytest.mark.slow
@pytest.mark.parametrize("verify", ["sha256", "xxh128"])
def test_files_go_to_a_bucket_from_there_to_another_and_back_into_a_folder(
    tmp_path, s3, bucket, verify
):
    step = make_step()
    option = {"endpoint_url": s3.endpoint_url}
    legs = [
        {
            "from": put(tmp_path / "from", FILES),
            "to": f"s3://{bucket}/a",
            "options": {"to": option},
        },
        {
            "from": f"s3://{bucket}/a",
            "to": f"s3://{bucket}/b",
            "options": {"from": option, "to": option},
        },
        {
            "from": f"s3://{bucket}/b",
            "to": f"file://{tmp_path}/to",
            "options": {"from": option},
        },
    ]
    for number, leg in enumerate(legs):
        steps = Steps(f"copy-{number}")
        arguments = {**leg, "verify": verify}
        observed = carry_out(step, steps.attempt(), arguments)
        assert observed.outputs["files"] == len(FILES)
        assert observed.progress.done == observed.progress.total == sum(map(len, FILES.values()))
        assert observed.outputs["origin_bytes"] == observed.progress.total
        assert step.observe(steps.attempt(2), arguments).done
    assert files_below(tmp_path / "to") == FILES
    assert {k: v for k, v in objects(s3, bucket).items() if k.startswith("b/")} == {
        f"b/{path}": content for path, content in FILES.items()
    }


@pytest.mark.parametrize("verify", ["xxh128", "size"])
def test_a_store_of_fsspec_gets_whole_files_and_what_the_step_wrote_is_deleted(tmp_path, verify):
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/mirror/keep.txt", b"of somebody else")
    step, steps = make_step(), Steps()
    arguments = {
        "from": put(tmp_path / "from", FILES),
        "to": "memory://mirror",
        "verify": verify,
        "parallel": 3,
    }
    try:
        carry_out(step, steps.attempt(), arguments)
        for path, content in FILES.items():
            assert memory.cat_file(f"/mirror/{path}") == content
        step.compensate(steps.attempt(undo=True), arguments, {"delete": True})
        assert memory.find("/mirror") == ["/mirror/keep.txt"]
    finally:
        memory.store.clear()


def test_only_what_matches_is_copied_and_an_estimate_says_so_beforehand(tmp_path):
    step = make_step()
    arguments = {
        "from": put(tmp_path / "from", FILES),
        "to": f"file://{tmp_path}/to",
        "include": ["*.json", "deep/"],
        "exclude": ["*.txt"],
    }
    wanted = kinds.check("migrate", arguments)
    found = sizes(step._carrier._sites, Place(RUNTIME, "team"), wanted)
    assert (found.files_to_copy, found.bytes_to_copy, found.bytes_to_compare) == (2, 8, 0)
    carry_out(step, Steps().attempt(), arguments)
    assert sorted(files_below(tmp_path / "to")) == ["config.json", "deep/empty"]
    found = sizes(step._carrier._sites, Place(RUNTIME, "team"), wanted)
    assert (found.files, found.files_to_copy, found.files_to_compare) == (2, 0, 1)


def written(path):
    """Say which file it is and when it was written; that it was read makes no difference."""
    found = path.stat()
    return found.st_ino, found.st_mtime_ns, found.st_ctime_ns


def test_what_is_there_and_equal_is_not_written_again_and_what_differs_is(tmp_path):
    source = put(tmp_path / "from", FILES)
    put(tmp_path / "to", {**FILES, "config.json": b'{"a": 2}'})
    kept = written(tmp_path / "to" / "model.safetensors")
    step = make_step()
    steps = Steps()
    arguments = {"from": source, "to": f"file://{tmp_path}/to"}
    carry_out(step, steps.attempt(), arguments)
    assert files_below(tmp_path / "to") == FILES
    assert written(tmp_path / "to" / "model.safetensors") == kept
    # Undone, only what the step wrote goes.
    step.compensate(steps.attempt(undo=True), arguments, {"delete": True})
    assert sorted(files_below(tmp_path / "to")) == sorted(set(FILES) - {"config.json"})


def test_a_copy_that_somebody_changed_is_not_done_any_more_and_is_mended(tmp_path):
    step, steps = make_step(), Steps()
    arguments = {"from": put(tmp_path / "from", FILES), "to": f"file://{tmp_path}/to"}
    carry_out(step, steps.attempt(), arguments)
    (tmp_path / "to" / "config.json").write_bytes(b'{"b": 1}')
    assert not step.observe(steps.attempt(), arguments).done
    carry_out(step, steps.attempt(), arguments)
    assert files_below(tmp_path / "to") == FILES


def test_short_answers_refusals_and_resets_cost_no_more_than_the_request(tmp_path):
    with FaultyOrigin({f"d/{path}": content for path, content in FILES.items()}) as server:
        server.fail(
            "d/model.safetensors", [Fault("short"), Fault("status"), Fault("reset"), Fault("short")]
        )
        steps = Steps()
        arguments = {"from": f"{server.url}/d/", "to": f"file://{tmp_path}/to", "parallel": 2}
        observed = carry_out(make_step(), steps.attempt(), arguments)
    assert files_below(tmp_path / "to") == FILES
    assert observed.outputs["origin_bytes"] == sum(map(len, FILES.values()))


def test_a_source_that_changes_meanwhile_is_an_error_and_never_a_mixture(tmp_path):
    old, new = large("old"), large("new")
    with FaultyOrigin({"d/model": old}) as server:
        step, steps = make_step(), Steps()
        arguments = {"from": f"{server.url}/d/", "to": f"file://{tmp_path}/to", "parallel": 1}
        context = steps.attempt()
        report = context.report

        def change_then_report(progress):
            if progress.done >= PART:
                server.files["d/model"] = new
            report(progress)

        context.report = change_then_report
        arguments["rate"] = "40MiB/s"
        with pytest.raises(OriginChangedError):
            step.apply(context, arguments)
        assert [path for path in files_below(tmp_path / "to") if "model" in path] == []
        carry_out(step, steps.attempt(2), arguments)
    assert files_below(tmp_path / "to") == {"model": new}


def test_the_hub_s_own_sha256_is_compared_and_a_branch_stays_at_its_commit(tmp_path):
    with FakeHub("org/model", {**SMALL, "model.safetensors": large(size=2000)}) as hub:
        step, steps = make_step(), Steps()
        arguments = {
            "from": "hf://org/model@main",
            "to": f"file://{tmp_path}/to",
            "options": {"from": {"endpoint_url": hub.url}},
            "verify": "sha256",
        }
        carry_out(step, steps.attempt(), arguments)
        assert files_below(tmp_path / "to")["model.safetensors"] == large(size=2000)
        commit = hub.head
        hub.commit({"model.safetensors": large("new", size=2000)})
        assert commit in steps.checkpoint["source"]
        assert step.observe(steps.attempt(), arguments).done


def test_a_source_whose_bytes_are_not_those_that_it_vouches_for_leaves_no_copy(
    tmp_path, monkeypatch
):
    content = large(size=2000)
    with FakeHub("org/model", {"model.safetensors": content}) as hub:
        monkeypatch.setattr("cachefs.testing.hub.LARGE_BYTES", 1024)
        arguments = {
            "from": "hf://org/model@main",
            "to": f"file://{tmp_path}/to",
            "options": {"from": {"endpoint_url": hub.url}},
        }
        monkeypatch.setattr("cachefs.testing.hub.hashlib.sha256", hashlib.sha3_256)
        with pytest.raises(OriginContentError):
            make_step().apply(Steps().attempt(), arguments)
    assert files_below(tmp_path / "to") == {}


@pytest.mark.slow
def test_a_cancelled_copy_ends_within_two_seconds_and_keeps_what_it_has(tmp_path):
    with FaultyOrigin({"d/model": large()}) as server:
        step, steps = make_step(), Steps()
        arguments = {
            "from": f"{server.url}/d/",
            "to": f"file://{tmp_path}/to",
            "parallel": 2,
            "rate": "4MiB/s",
        }
        context = steps.attempt()
        threading.Timer(2.0, context.stop).start()
        began = RUNTIME.monotonic()
        with pytest.raises(StepCancelledError):
            step.apply(context, arguments)
        assert RUNTIME.monotonic() - began < 4.0
        before = server.requests["d/model"]
        RUNTIME.sleep(0.5)
        assert server.requests["d/model"] == before
        # The rate is one for both streams: two seconds' worth, what came at once, a request each.
        assert MIB < _fetched(server) < 12 * MIB
        step.compensate(steps.attempt(undo=True), arguments, {"delete": True})
        assert files_below(tmp_path / "to") == {}


@pytest.mark.slow
def test_a_copy_whose_source_is_silent_is_cancelled_all_the_same(tmp_path):
    with FaultyOrigin({"d/model": large()}) as server:
        step, steps = make_step(), Steps()
        context = steps.attempt()
        arguments = {"from": f"{server.url}/d/", "to": f"file://{tmp_path}/to", "parallel": 2}

        def stall_then_stop():
            server.fail_always("d/model", Fault("stall_in_body"))
            RUNTIME.sleep(0.5)
            context.stop()

        context.note = lambda noted, note=context.note: (note(noted), stall_then_stop())
        began = RUNTIME.monotonic()
        with pytest.raises(StepCancelledError):
            step.apply(context, {**arguments, "rate": "20MiB/s"})
        assert RUNTIME.monotonic() - began < 5.0


@pytest.mark.parametrize(
    ("source", "to"),
    [("", "/deep"), ("/deep", ""), ("", "/"), ("/link", "/deep/more")],
)
def test_a_copy_into_its_own_source_is_refused(tmp_path, source, to):
    put(tmp_path / "d" / "deep", SMALL)
    (tmp_path / "d" / "link").symlink_to("deep")
    where = f"file://{tmp_path}/d"
    with pytest.raises(ConfigError, match="inside of each other"):
        make_step().observe(Steps().attempt(), {"from": where + source, "to": where + to})


@pytest.mark.parametrize(
    ("source", "to"), [("s3://b", "s3://b/m"), ("s3://b/m/", "s3://b"), ("s3://b/m", "s3://b/m/x")]
)
def test_a_copy_within_a_bucket_goes_to_another_folder(source, to):
    with pytest.raises(ConfigError, match="inside of each other"):
        make_step().observe(Steps().attempt(), {"from": source, "to": to})


@pytest.mark.slow
def test_a_disk_that_is_full_is_said_and_what_is_there_is_gone_on_with(tmp_path):
    if os.geteuid():
        pytest.skip("mounts a file system of a few bytes")
    folder = tmp_path / "to"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=12m", "none", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounts are not allowed here")
    try:
        source = put(tmp_path / "from", {"model": large()})
        step, steps = make_step(), Steps()
        arguments = {"from": source, "to": f"file://{folder}", "parallel": 1}
        with pytest.raises(CapacityError, match="no room"):
            step.apply(steps.attempt(), arguments)
        spent = steps.checkpoint["copy"]["origin_bytes"]
        subprocess.run(["mount", "-o", "remount,size=64m", str(folder)], check=True)
        observed = carry_out(step, steps.attempt(2), arguments)
        assert files_below(folder) == {"model": large()}
        assert observed.outputs["origin_bytes"] <= len(large()) + PART
        assert spent >= 2 * PART
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_copy_that_the_disk_changed_is_found_before_it_gets_its_name(tmp_path, monkeypatch):
    from cachefs.origins.destinations import folder  # noqa: PLC0415

    right = os.pwrite

    def wrong(descriptor, data, offset):
        return right(descriptor, bytes(len(data)), offset)

    monkeypatch.setattr(folder.os, "pwrite", wrong)
    step, steps = make_step(), Steps()
    source = put(tmp_path / "from", {"a": b"abc", "model": large()})
    arguments = {"from": source, "to": f"file://{tmp_path}/to"}
    with pytest.raises(IntegrityError):
        step.apply(steps.attempt(), arguments)
    monkeypatch.undo()
    monkeypatch.setattr("cachefs.dataflow.copying.ends.PART_BYTES", PART)
    carry_out(step, steps.attempt(2), arguments)
    assert files_below(tmp_path / "to") == {"a": b"abc", "model": large()}


def test_the_hub_is_refused_as_destination(tmp_path):
    arguments = {"from": put(tmp_path / "from", SMALL), "to": "hf://org/model"}
    with pytest.raises(ConfigError, match="Hub takes commits"):
        make_step().observe(Steps().attempt(), arguments)


@pytest.mark.slow
@pytest.mark.parametrize("to", ["file", "s3"])
def test_killed_at_any_moment_no_more_than_a_part_of_each_stream_is_fetched_twice(
    tmp_path, s3, bucket, to
):
    files = {"one": large("one", 6 * PART + 5), "two": large("two", 4 * PART), **SMALL}
    streams, kills = 2, 3
    # Each time long enough that whoever resumes nothing fetches more than that in vain.
    killed_after = streams * PART + 3 * MIB
    with FaultyOrigin({f"d/{path}": content for path, content in files.items()}) as server:
        arguments = {
            "from": f"{server.url}/d/",
            "to": f"file://{tmp_path}/to" if to == "file" else f"s3://{bucket}/to",
            "options": {"to": {} if to == "file" else {"endpoint_url": s3.endpoint_url}},
            "parallel": streams,
            "rate": "20MiB/s",
        }
        command = [
            sys.executable,
            "-m",
            "tests.fault.copying_process",
            str(tmp_path / "checkpoint.json"),
            json.dumps(arguments),
        ]
        for kill in range(kills):
            before = _fetched(server)
            with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
                while _fetched(server) < before + killed_after and process.poll() is None:
                    RUNTIME.sleep(0.01)
                RUNTIME.sleep(0.05 * kill)
                process.kill()
        ended = subprocess.run(command, check=True, capture_output=True, text=True)
        assert ended.stdout == "done\n"
        fetched = _fetched(server)
    found = (
        files_below(tmp_path / "to")
        if to == "file"
        else {key[3:]: content for key, content in objects(s3, bucket).items()}
    )
    assert found == files
    size = sum(map(len, files.values()))
    assert size <= fetched <= size + kills * streams * PART


def _fetched(server):
    """Return the bytes that were asked for, whether or not they arrived."""
    asked = [
        head["Range"].removeprefix("bytes=").split("-")
        for head in server.heads
        if head.get("Range")
    ]
    return sum(int(last) - int(first) + 1 for first, last in asked)
