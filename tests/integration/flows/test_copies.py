"""``migrate`` into a dataset, ``verify`` and ``backup``, on a real system."""

import random
import shutil

import pytest

from tests.integration.flows.local_systems import BLOCK_SIZE, LocalSystem, step_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

FILES = {
    "model.safetensors": random.Random(1).randbytes(10 * BLOCK_SIZE + 17),
    "config.json": b'{"a": 1}',
    "empty": b"",
    "notes.md": b"not wanted",
}
WANTED = {path: content for path, content in FILES.items() if path != "notes.md"}
SIZE = sum(map(len, WANTED.values()))
HEAD = "apiVersion: cachefs/v1\nkind: Flow\nmetadata: {name: x, namespace: team}\nspec:\n  steps:\n"


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    folder = tmp_path_factory.mktemp("copies")
    (folder / "from").mkdir()
    for path, content in FILES.items():
        (folder / "from" / path).write_bytes(content)
    with LocalSystem(folder, workers=2) as made:
        copy = f'with: {{from: "file://{folder}/from", to: "dataset:llama@v1", exclude: ["*.md"]}}'
        made.copied = run(made, f"{{id: copy, kind: migrate, {copy}}}")
        yield made


def run(system, *steps, state="Succeeded"):
    """Submit a flow of these steps, wait for its end, and return it."""
    document = HEAD + "".join(f"  - {step}\n" for step in steps)
    status = system.wait(system.submit(document))
    assert status["run"]["state"] == state, [step["failure"] for step in status["steps"]]
    return status


def damage(system, content):
    """Change a byte of a block where a worker keeps it; return how many copies were changed."""
    changed = 0
    middle = content[BLOCK_SIZE * 4 : BLOCK_SIZE * 4 + 64]
    for path in system.state.path.rglob("*"):
        if path.is_file() and (at := path.read_bytes().find(middle)) >= 0:
            with path.open("r+b") as file:
                file.seek(at)
                file.write(bytes([middle[0] ^ 1]))
            changed += 1
    return changed


def test_what_goes_into_a_dataset_is_a_labelled_version_whose_files_are_resident(system):
    outputs = step_of(system.copied, "copy")["outputs"]
    assert (outputs["dataset"], outputs["files"], outputs["bytes"]) == ("team/llama", 3, SIZE)
    assert step_of(system.copied, "copy")["progress"]["origin_bytes"] == SIZE
    again = run(
        system,
        '{id: ready, kind: wait, with: {dataset: "llama@v1", paths: ["model.safetensors"], '
        'condition: "bytes_missing == 0"}}',
    )
    assert step_of(again, "ready")["outputs"]["bytes"] == len(FILES["model.safetensors"])


def test_a_rotten_block_is_found_and_filled_anew(system):
    verify = '{id: sure, kind: verify, with: {dataset: "llama@v1", paths: ["*.safetensors"]}}'
    clean = step_of(run(system, verify), "sure")["outputs"]
    assert (clean["checked"], clean["bad"], clean["bytes"]) == (
        11,
        0,
        len(FILES["model.safetensors"]),
    )
    assert damage(system, FILES["model.safetensors"]) == 1
    mended = run(system, verify)
    outputs = step_of(mended, "sure")["outputs"]
    # A worker that notices that somebody wrote to its file says that it has the block no more.
    assert (outputs["checked"], outputs["bad"] + outputs["gone"]) == (11, 1)
    assert any("is filled anew" in str(event) for event in system.events(mended["run"]["id"]))
    assert step_of(run(system, verify), "sure")["outputs"] == clean
    part = verify.replace('"]}', '"], fraction: 0.3}')
    assert step_of(run(system, part), "sure")["outputs"]["checked"] == 3


def test_a_backup_of_what_is_resident_asks_nothing_of_the_origin(system):
    shutil.move(system.folder / "from", system.folder / "away")
    try:
        status = run(
            system,
            f'{{id: keep, kind: backup, with: {{dataset: "llama@v1", to: "file://{system.folder}/to", '
            'paths: ["*.safetensors", "*.json", empty], verify: sha256}}',
        )
    finally:
        shutil.move(system.folder / "away", system.folder / "from")
    outputs = step_of(status, "keep")["outputs"]
    assert (outputs["files"], outputs["bytes"], outputs["origin_bytes"]) == (3, SIZE, 0)
    copied = {path.name: path.read_bytes() for path in (system.folder / "to").iterdir()}
    assert copied == WANTED


def test_a_mirror_that_cannot_be_is_undone_and_leaves_what_was_there(system):
    to = system.folder / "mirror"
    to.mkdir()
    (to / "config.json").write_bytes(FILES["config.json"])
    run(
        system,
        f'{{id: copy, kind: migrate, with: {{from: "file://{system.folder}/from", to: "file://{to}"}}, '
        "compensate: {delete: true}}",
        "{id: no, kind: verify, needs: [copy], with: {dataset: ghost}, on_failure: rollback}",
        state="RolledBack",
    )
    assert [path.name for path in to.iterdir()] == ["config.json"]


def test_a_copy_goes_on_after_the_coordinator_was_killed(system):
    source, to = system.folder / "large", system.folder / "copied"
    source.mkdir()
    content = random.Random(2).randbytes(40_000_000)
    (source / "model").write_bytes(content)
    document = HEAD + (
        f'  - {{id: copy, kind: migrate, with: {{from: "file://{source}", to: "file://{to}", '
        "rate: 12MB/s, parallel: 2}}\n"
    )
    begun = system.submit(document)

    def half_way(status):
        return step_of(status, "copy")["progress"]["done"] > 10_000_000

    system.until(begun, half_way)
    system.kill("coordinator")
    status = system.wait(begun)
    assert status["run"]["state"] == "Succeeded"
    copy = step_of(status, "copy")
    assert copy["attempt"] == 1
    # What was noted before the kill counts, and is not taken again.
    assert copy["outputs"]["origin_bytes"] <= len(content) + 2 * 8 * 1024 * 1024
    assert {path.name: path.read_bytes() for path in to.iterdir()} == {"model": content}
