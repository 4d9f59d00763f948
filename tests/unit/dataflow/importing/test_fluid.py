"""Fluid's operations as flows: what becomes of each, what is told, and what is refused."""

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from cachefs.cli import main
from cachefs.dataflow.importing.fluid import read_fluid
from cachefs.dataflow.spec.problems import FlowDocumentError
from cachefs.dataflow.spec.reading import read_flow
from cachefs.errors import ConfigError

SAMPLES = Path(__file__).parent / "samples"
NAMES = ("load", "chain", "event")


def sample(name):
    return read_fluid((SAMPLES / f"{name}.yaml").read_text(), file=f"{name}.yaml")


def flow_of(imported):
    return read_flow(json.dumps(imported.document), name="flow")


def operation(kind, name="x", **spec):
    return {
        "apiVersion": "data.fluid.io/v1alpha1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": spec,
    }


def load(name="x", **spec):
    return operation("DataLoad", name, dataset={"name": "llama"}, **spec)


def job(**container):
    podspec = {"containers": [{"image": "a:1", "command": ["true"], **container}]}
    return operation("DataProcess", processor={"job": {"podSpec": podspec}})


def read(*documents):
    return read_fluid(yaml.safe_dump_all(documents), file="fluid.yaml")


def refused(*documents):
    with pytest.raises(FlowDocumentError) as caught:
        read(*documents)
    return [(one.place.line, one.path, one.message) for one in caught.value.problems]


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_becomes_a_flow_that_is_valid(name, tmp_path):
    out = tmp_path / "flow.yaml"
    done = CliRunner().invoke(
        main.app, ["flow", "import", str(SAMPLES / f"{name}.yaml"), "--out", str(out)]
    )
    assert (done.exit_code, done.stdout) == (0, "")
    validated = CliRunner().invoke(main.app, ["flow", "validate", str(out)])
    assert validated.exit_code == 0, validated.stdout


def test_what_runs_after_something_needs_it():
    needs = {step.id: step.needs for step in flow_of(sample("chain")).steps}
    assert needs == {"fetch": (), "load": ("fetch",), "quantise": ("load",), "keep": ("load",)}


def test_what_runs_after_a_load_of_several_steps_needs_them_all():
    first = load("a", target=[{"path": "/v1"}, {"path": "/v2", "replicas": 2}, {"path": "/v3"}])
    flow = flow_of(read(first, load("b", runAfter={"kind": "DataLoad", "name": "a"})))
    assert [(step.id, step.needs) for step in flow.steps] == [
        ("a", ()),
        ("a-2", ()),
        ("b", ("a", "a-2")),
    ]
    assert flow.steps[0].arguments["paths"] == ["/v1", "v1/**", "/v3", "v3/**"]
    assert flow.steps[1].arguments["copies"] == 2


def test_what_runs_after_a_migration_uses_the_version_that_it_has_made():
    steps = {step.id: step.arguments for step in flow_of(sample("chain")).steps}
    assert steps["fetch"]["to"] == "dataset:llama@fetch"
    assert steps["load"]["dataset"] == "llama@fetch"
    assert steps["quantise"]["mounts"] == [{"dataset": "llama@fetch", "path": "/data"}]
    assert steps["keep"]["dataset"] == "llama@fetch"


def test_paths_lose_the_mounts_name_if_the_file_says_which_it_is():
    steps = flow_of(sample("load")).steps
    assert [step.arguments["paths"] for step in steps] == [
        ["/v2", "v2/**"],
        ["/tokenizer", "tokenizer/**"],
    ]


def test_a_schedule_and_an_event_become_triggers():
    assert flow_of(sample("load")).triggers[0].cron == "0 0 * * *"
    assert flow_of(sample("event")).triggers[0].event == {"dataset": "other/llama"}
    assert flow_of(sample("chain")).triggers == ()


def test_secrets_become_references_and_texts_stay_as_they_are():
    steps = {step.id: step.arguments for step in flow_of(sample("chain")).steps}
    assert steps["fetch"]["credentials"] == {"from": "env:FETCH_FROM"}
    assert steps["quantise"]["secrets"] == {"HF_TOKEN": "env:HF_TOKEN"}
    assert steps["quantise"]["command"][-1] == "$${HOME} stays as it is"
    assert steps["quantise"]["resources"] == {"cpu": 0.5, "memory": "16Gi", "gpu": 1}


def test_a_value_that_looks_like_a_secret_is_not_taken_over():
    imported = read(job(env=[{"name": "API_KEY", "value": "s3cr3t"}]))
    assert "s3cr3t" not in json.dumps(imported.document)
    assert "API_KEY looks like a secret" in "\n".join(imported.notes)
    assert "s3cr3t" not in "\n".join(imported.notes)


def test_a_place_that_only_kubernetes_knows_must_be_given_at_submission():
    imported = sample("chain")
    assert flow_of(imported).params == {"keep_to": None}
    assert flow_of(sample("event")).steps[1].arguments["to"] == "file:///var/backups/llama"


@pytest.mark.parametrize(
    "key",
    ["options", "loadMetadata", "ttlSecondsAfterFinished", "affinity", "nodeSelector", "brandNew"],
)
def test_nothing_is_left_out_without_a_word(key):
    imported = read(load(**{key: {"a": "b"}}))
    assert f"spec.{key} is left out" in "\n".join(imported.notes)


def test_what_is_not_known_within_a_known_part_is_told_too():
    imported = read(job(lifecycle={"preStop": {}}))
    assert "containers[0].lifecycle is left out: it is not known here" in "\n".join(imported.notes)


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        ([operation("DataProcess", processor={"script": {"source": "du -sh"}})], "shell"),
        ([operation("DataProcess", processor={})], "needs job"),
        ([job(command=[])], "a job without a command"),
        (
            [job(env=[{"name": "A", "valueFrom": {"fieldRef": {}}}])],
            "'fieldRef' has no counterpart",
        ),
        ([operation("DataMigrate")], "needs either dataset or externalStorage"),
        (
            [operation("DataMigrate", to={"dataset": {"name": "a", "path": "/b"}})],
            "published whole",
        ),
        ([load(runAfter={"kind": "DataLoad", "name": "y"})], "is not in this file"),
        ([load(policy="Cron", schedule="often")], "fields"),
        ([load(policy="Sometimes")], "'Sometimes' is no policy"),
        ([load("a"), load("b", policy="OnEvent")], "several policies: a, b"),
        ([load(), load()], "a second one of this name"),
        ([{**load(), "kind": "DataLoda"}], "'DataLoda' is no operation"),
        ([{**load(), "apiVersion": "v1"}], "'v1' is not Fluid's"),
        ([load(target=[{"path": ["a"]}])], "a list, where text is needed"),
        ([load(target="all")], "text, where a list is needed"),
    ],
)
def test_what_a_flow_cannot_say_is_refused(documents, message):
    assert any(message in one for _, _, one in refused(*documents)), refused(*documents)


def test_all_that_is_refused_is_told_at_once_each_with_its_line():
    text = (
        "apiVersion: data.fluid.io/v1alpha1\nkind: DataLoad\nmetadata: {name: a}\n"
        "spec:\n  dataset: {name: llama}\n  policy: Sometimes\n"
        "---\n"
        "apiVersion: data.fluid.io/v1alpha1\nkind: DataProcess\nmetadata: {name: b}\n"
        "spec:\n  processor:\n    script: {source: ls}\n"
    )
    with pytest.raises(FlowDocumentError) as caught:
        read_fluid(text, file="f.yaml")
    assert [(one.place.line, one.path) for one in caught.value.problems] == [
        (6, "DataLoad a: spec.policy"),
        (13, "DataProcess b: spec.processor.script"),
    ]


def test_operations_that_run_after_each_other_are_refused():
    one = load("a", runAfter={"kind": "DataLoad", "name": "b"})
    other = load("b", runAfter={"kind": "DataLoad", "name": "a"})
    with pytest.raises(ConfigError, match="steps that wait for each other: a → b → a"):
        read(one, other)


def test_a_file_without_operations_is_refused():
    with pytest.raises(ConfigError, match="there is no operation in it"):
        read_fluid("# nothing\n", file="f.yaml")


def test_the_command_shows_yaml_with_comments_or_json():
    file = str(SAMPLES / "event.yaml")
    shown = CliRunner().invoke(main.app, ["flow", "import", file, "--name", "mine"]).stdout
    assert shown.startswith("# DataLoad 7b.load: items[0].metadata.labels is left out")
    assert read_flow(shown, name="flow").name == "mine"
    printed = CliRunner().invoke(main.app, ["flow", "import", file, "--name", "mine", "--json"])
    assert json.loads(printed.stdout)["flow"] == yaml.safe_load(shown)


def test_the_command_shows_what_is_refused_with_its_line(tmp_path):
    file = tmp_path / "f.yaml"
    file.write_text(yaml.safe_dump(load(policy="Sometimes"), sort_keys=False))
    done = CliRunner().invoke(main.app, ["flow", "import", str(file)])
    assert done.exit_code == 2
    assert "8:3: 'Sometimes' is no policy" in done.stdout
    assert "there is Once, Cron, OnEvent" in done.stdout


def _places(value, path=()):
    """Yield the path of each value within a document."""
    yield path
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _places(item, (*path, key))


_WORDS = st.sampled_from(
    ["", "x", "${params.a}", "pvc://a/b", "s3://u:p@b/c", "Cron", "DataLoad", "é"]
)
_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**40) | _WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_WORDS, inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_whatever_a_file_says_it_becomes_a_valid_flow_or_is_refused(data):
    name = data.draw(st.sampled_from(NAMES))
    documents = list(yaml.safe_load_all((SAMPLES / f"{name}.yaml").read_text()))
    for _ in range(data.draw(st.integers(1, 3))):
        places = [path for path in _places(documents) if len(path) > 1]
        *above, last = data.draw(st.sampled_from(places))
        part = documents
        for key in above:
            part = part[key]
        part[last] = data.draw(_ANYTHING)
    try:
        imported = read(*documents)
    except ConfigError:
        return
    assert flow_of(imported).steps
