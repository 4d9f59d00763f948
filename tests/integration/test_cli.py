"""Commands against a real system: what they print, their JSON, and their exit codes.

The forms of ``--json`` here are what programs rely on: a key may be added, none may go.
"""

import hashlib
import json
import os
import subprocess
import sys

import pytest

from cachefs.cli import main
from cachefs.cli.system.statefolder import StateFolder

pytestmark = pytest.mark.slow

BLOCK = 64 * 1024
CONTENTS = {
    "model-00001-of-00002.safetensors": bytes(range(256)) * 1024,
    "model-00002-of-00002.safetensors": b"second" * 400_000,
    "tokenizer/vocab.txt": b"[CLS]\n[SEP]\n",
    "tokenizer/empty": b"",
    "evil\x1b[31m\nname": b"evil",
}


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    """A running system with one dataset, ``models/small``."""
    folder = tmp_path_factory.mktemp("cli")
    for path, content in CONTENTS.items():
        (folder / "data" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "data" / path).write_bytes(content)
    sums = folder / "SHA256SUMS"
    digest = hashlib.sha256(CONTENTS["tokenizer/vocab.txt"]).hexdigest()
    sums.write_text(f"{digest}  tokenizer/vocab.txt\n")
    state = StateFolder(folder / "state")
    clean = {name: value for name, value in os.environ.items() if "CACHEFS" not in name}
    environment = {**clean, "CACHEFS_CLUSTER__BLOCK_SIZE": str(BLOCK)}
    command = [sys.executable, "-m", "cachefs.cli"]
    where = ["--state", str(state.path)]
    up = [*command, "up", *where, "--detach", "--workers", "2", "--disk", "64MiB"]
    subprocess.run(up, env=environment, check=True, capture_output=True, timeout=60)
    url = f"file://{folder}/data"
    add = [*command, "dataset", "add", "models/small", url, "--checksums", str(sums), *where]
    try:
        subprocess.run(add, env=environment, check=True, capture_output=True, timeout=60)
        yield state.path
    finally:
        subprocess.run([*command, "down", *where], env=environment, check=False, timeout=60)


@pytest.fixture
def cachefs(state, monkeypatch, capfdbinary):
    """Run a command in this process; return exit code, output and errors."""
    monkeypatch.setenv("CACHEFS_STATE", str(state))

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["cachefs", *map(str, words)])
        code = main.run()
        out, err = capfdbinary.readouterr()
        return code, out, err.decode()

    return run


@pytest.fixture
def ask(cachefs):
    """Run a command with ``--json``; return the document."""

    def run(*words):
        code, out, err = cachefs(*words, "--json")
        assert code == 0, err
        return json.loads(out)

    return run


def problems(findings):
    """Those of this system: the mounts are all of this machine's, and other tests kill theirs."""
    return [each for each in findings if each["level"] == "problem" and each["check"] != "mounts"]


def test_status_shows_what_runs(cachefs, ask):
    document = ask("status")
    assert set(document) >= {"coordinator", "state", "epoch", "members", "datasets", "warm"}
    assert document["datasets"] == ["models/small"]
    assert [process["name"] for process in document["processes"]][:2] == [
        "supervisor",
        "coordinator",
    ]
    assert b"worker-2" in cachefs("status")[1]


def test_datasets_are_listed_and_shown(cachefs, ask):
    (row,) = ask("dataset", "list")
    assert row == ask("dataset", "show", "models/small")
    assert set(row) >= {"name", "origin", "current", "consistency", "replicas", "pool", "pins"}
    assert set(row["origin"]) == {"url", "options"}
    assert b"models/small" in cachefs("dataset", "list")[1]
    (version,) = ask("dataset", "versions", "models/small")
    assert version["id"] == row["current"]
    assert set(version) >= {"id", "file_count", "size", "listed_at", "client", "client_reason"}
    assert cachefs("dataset", "versions", "models/small")[1].count(b"\n") == 2


def test_files_are_listed_and_control_characters_escaped(cachefs, ask):
    rows = ask("ls", "models/small")
    assert {row["path"]: row["size"] for row in rows} == {
        path: len(content) for path, content in CONTENTS.items()
    }
    assert set(rows[0]) == {"path", "size", "token", "digest", "file_version"}
    code, out, _ = cachefs("ls", "models/small")
    assert code == 0
    assert len(out.splitlines()) == 4
    assert b"tokenizer/\n" in out
    assert b"\x1b" not in out
    assert b"tokenizer/vocab.txt\n" in cachefs("ls", "-R", "models/small/tokenizer")[1]


def test_cat_writes_exactly_the_bytes(cachefs):
    name = "model-00001-of-00002.safetensors"
    assert cachefs("cat", f"models/small/{name}")[1] == CONTENTS[name]
    part = cachefs("cat", f"models/small/{name}", "--range", f"{BLOCK - 5}-{BLOCK + 4}")[1]
    assert part == CONTENTS[name][BLOCK - 5 : BLOCK + 5]
    assert cachefs("cat", "models/small/tokenizer/empty") == (0, b"", "")


def test_cp_copies_a_dataset_whole_and_checks_it(cachefs, tmp_path):
    code, _, err = cachefs("cp", "models/small", tmp_path / "copy")
    assert code == 0
    assert err == "copied 5 files, 1 of them checked against the origin's digest\n"
    for path, content in CONTENTS.items():
        assert (tmp_path / "copy" / path).read_bytes() == content


def test_warm_and_explain_and_evict_agree(cachefs, ask):
    job = ask("warm", "models/small")
    assert job["state"] == "done"
    assert job["bytes_done"] == job["bytes_total"] == sum(map(len, CONTENTS.values()))
    found = ask("explain", "models/small/model-00001-of-00002.safetensors")
    assert [block["index"] for block in found["blocks"]] == [0, 1, 2, 3]
    for block in found["blocks"]:
        assert [holder["worker"] for holder in block["holders"]] == block["owners"]
    code, out, _ = cachefs("explain", "models/small/tokenizer/vocab.txt")
    assert code == 0
    assert b"1 of 1 blocks" in out
    assert ask("evict", "models/small")["bytes"] > 0


def test_a_warm_up_right_after_an_eviction_fills_again(ask):
    ask("warm", "models/small")
    for _ in range(3):
        assert ask("evict", "models/small")["bytes"] > 0
        assert ask("warm", "models/small")["state"] == "done"


def test_pins_are_kept_and_taken_back(cachefs, ask):
    assert cachefs("pin", "models/small", "tokenizer")[0] == 0
    assert ask("dataset", "show", "models/small")["pins"] == ["tokenizer"]
    assert cachefs("unpin", "models/small", "tokenizer")[0] == 0
    assert ask("dataset", "show", "models/small")["pins"] == []


def test_workers_are_listed_shown_and_their_drain_planned(ask):
    rows = ask("worker", "list")
    assert [row["worker"] for row in rows] == ["worker-1", "worker-2"]
    assert set(rows[0]) >= {"pid", "data_address", "draining", "weight", "statistics"}
    assert ask("worker", "show", "worker-1")["worker"] == "worker-1"
    plan = ask("worker", "drain", "worker-1", "--dry-run")
    assert set(plan) == {"blocks", "bytes", "seconds", "done"}
    assert not ask("worker", "show", "worker-1")["draining"]


def test_doctor_finds_a_healthy_system_healthy(cachefs, ask):
    findings = json.loads(cachefs("doctor", "--json")[1])
    assert problems(findings) == []
    assert {"python", "open files", "disk", "ports", "clocks", "capacity"} <= {
        finding["check"] for finding in findings
    }
    *rows, verdict = cachefs("doctor")[1].decode().splitlines()
    wrong = sum(row.startswith("✗") for row in rows)
    assert verdict == {0: "nothing to fix", 1: "1 thing to fix"}.get(
        wrong, f"{wrong} things to fix"
    )


def test_a_dataset_comes_changes_and_goes(cachefs, ask, state):
    url = f"file://{state.parent}/data/tokenizer"
    row = ask("dataset", "add", "words", url, "--exclude", "empty", "--replicas", "2")
    assert (row["replicas"], row["exclude"]) == (2, ["empty"])
    assert ask("dataset", "update", "words")["file_count"] == 1
    assert ask("dataset", "update", "words", "--consistency", "max_age=60s")["consistency"] == (
        "max_age=60s"
    )
    assert cachefs("dataset", "add", "words", url)[0] == 10
    assert cachefs("dataset", "rm", "words")[0] == 0
    assert cachefs("dataset", "show", "words")[0] == 4


def test_doctor_says_when_a_dataset_does_not_fit(cachefs, ask, state):
    large = state.parent / "large"
    large.mkdir()
    with (large / "weights").open("wb") as file:
        file.truncate(200 * 1024 * 1024)
    assert cachefs("dataset", "add", "large", f"file://{large}")[0] == 0
    try:
        code, out, _ = cachefs("doctor", "--json")
        (problem,) = problems(json.loads(out))
        assert code == 1
        assert problem["check"] == "capacity"
        assert problem["message"].startswith("large needs 200 MiB")
        assert "--disk" in problem["advice"]
        assert b"large needs 200 MiB" in cachefs("doctor")[1]
    finally:
        assert cachefs("dataset", "rm", "large")[0] == 0


def test_a_detached_warm_up_says_how_to_cancel_it(cachefs):
    code, out, err = cachefs("warm", "models/small", "--detach", "--json")
    job = json.loads(out)
    assert code == 0
    assert f"--cancel {job['id']}" in err
    assert set(job) >= {"id", "dataset", "version", "state", "bytes_total", "bytes_done", "failure"}


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["cat", "models/small/nothing"], 4),
        (["cat", "models/small"], 2),
        (["cat", "nothing/at/all"], 4),
        (["cat", "models/small@ffff/tokenizer/vocab.txt"], 4),
        (["cat", "models/small/tokenizer/vocab.txt", "--range", "x"], 2),
        (["ls", "models/small/nothing"], 4),
        (["ls", "../../etc"], 2),
        (["dataset", "add", "Bad Name", "file:///tmp"], 2),
        (["dataset", "add", "gone", "file:///nothing/there"], 5),
        (["worker", "show", "nobody"], 4),
        (["warm", "models/small", "nothing"], 4),
        (["warm", "models/small", "--cancel", "nothing"], 4),
        (["no-such-command"], 2),
        (["up"], 10),
    ],
)
def test_failures_have_their_exit_code_and_no_traceback(cachefs, words, code):
    found, out, err = cachefs(*words)
    assert found == code, err
    assert out == b""
    assert "Traceback" not in err
    assert "rror" in err


def test_where_nothing_runs_the_exit_code_is_3_and_the_hint_helps(cachefs, tmp_path):
    for words in (["status"], ["ls", "x"], ["dataset", "list"], ["warm", "x"]):
        code, _, err = cachefs(*words, "--state", tmp_path)
        assert code == 3
        assert "hint: start it with `cachefs up`" in err


def test_an_address_and_a_token_file_find_the_system_too(cachefs, ask, state, monkeypatch):
    coordinator = ask("status")["coordinator"]
    monkeypatch.delenv("CACHEFS_STATE")
    monkeypatch.setenv("CACHEFS_COORDINATOR", f"http://{coordinator}")
    monkeypatch.setenv("CACHEFS_TOKEN_FILE", str(state / "token"))
    assert cachefs("cat", "models/small/tokenizer/vocab.txt")[1] == b"[CLS]\n[SEP]\n"


def test_a_wrong_token_is_refused(cachefs, ask, tmp_path, monkeypatch):
    coordinator = ask("status")["coordinator"]
    (tmp_path / "token").write_text("wrong")
    (tmp_path / "token").chmod(0o600)
    monkeypatch.delenv("CACHEFS_STATE")
    monkeypatch.setenv("CACHEFS_COORDINATOR", coordinator)
    monkeypatch.setenv("CACHEFS_TOKEN_FILE", str(tmp_path / "token"))
    assert cachefs("dataset", "list")[0] == 9
    assert cachefs("ls", "models/small")[0] == 9


def test_a_reader_of_the_output_that_goes_away_is_told_by_the_exit_code(state):
    environment = {**os.environ, "CACHEFS_STATE": str(state)}
    path = "models/small/model-00002-of-00002.safetensors"  # larger than a pipe
    process = subprocess.Popen(
        [sys.executable, "-m", "cachefs.cli", "cat", path],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.read(1)
    process.stdout.close()
    _, err = process.communicate(timeout=30)
    assert process.returncode == 141
    assert err == b""


def test_settings_say_where_they_come_from(cachefs, ask, monkeypatch, tmp_path):
    (tmp_path / "settings.yaml").write_text("worker:\n  zone: east\n")
    monkeypatch.setenv("CACHEFS_READER__DEADLINE_SECONDS", "5s")
    rows = {
        row["key"]: row for row in ask("config", "show", "--config", tmp_path / "settings.yaml")
    }
    assert rows["reader.deadline_seconds"]["value"] == 5.0
    assert rows["reader.deadline_seconds"]["source"] == "$CACHEFS_READER__DEADLINE_SECONDS"
    assert rows["worker.zone"]["source"].endswith("settings.yaml:2")
    assert rows["cluster.block_size"]["source"] == "default"


def test_the_version_is_told_in_both_ways(cachefs, ask):
    assert set(ask("version")) == {"cachefs", "wire", "python", "kernel"}
    assert cachefs("--version")[1] == cachefs("version")[1]


def test_help_is_fast_because_it_imports_nothing_heavy():
    program = (
        "import sys; from cachefs.cli import main; sys.argv = ['cachefs', '--help']; main.run();"
        "print(sorted({'grpc', 'fastapi', 'sqlalchemy', 'fsspec', 'pydantic', 'yaml', 'psutil'}"
        " & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stderr == "[]\n"
    assert "Running the system" in done.stdout


def test_a_warm_up_of_files_with_known_digests_ends_with_their_proof_or_its_failure(
    cachefs, ask, state, tmp_path
):
    name = "model-00002-of-00002.safetensors"
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    right.write_text(f"{hashlib.sha256(CONTENTS[name]).hexdigest()}  {name}\n")
    wrong.write_text(f"{hashlib.sha256(b'another content').hexdigest()}  {name}\n")
    url = f"file://{state.parent}/data"
    assert cachefs("dataset", "add", "models/right", url, "--checksums", right)[0] == 0
    assert ask("warm", "models/right", name)["state"] == "done"
    proofs = [path for path in state.rglob("proofs/*") if path.is_file()]
    assert len(proofs) == 1
    assert cachefs("cat", f"models/right/{name}")[1] == CONTENTS[name]

    assert cachefs("dataset", "add", "models/wrong", url, "--checksums", wrong)[0] == 0
    code, _, said = cachefs("warm", "models/wrong", name)
    assert (code, "known digest" in said) == (6, True), said
    code, out, said = cachefs("cat", f"models/wrong/{name}")
    assert (code, out) == (6, b""), said
    for dataset in ("models/right", "models/wrong"):
        assert cachefs("dataset", "rm", dataset)[0] == 0
