"""Flows as Argo's workflows: held to Hera's models of what Argo takes, and to golden files.

``golden/NAME.argo.yaml`` is what ``golden/NAME.flow.yaml`` becomes; with ``CACHEFS_WRITE_GOLDEN=1`` the
tests write these files anew, for a person to read the difference.
"""

import copy
import json
import os
import re
from pathlib import Path

import pytest
import yaml
from hera.workflows import models
from pydantic import ValidationError
from typer.testing import CliRunner

from cachefs.cli import main
from cachefs.cli.flow.writing import to_yaml
from cachefs.dataflow.exporting import argo
from cachefs.dataflow.spec.reading import read_flow
from cachefs.errors import CapacityError, ConfigError

GOLDEN = Path(__file__).parent / "golden"
EXAMPLES = sorted((Path(__file__).parents[4] / "dataflow" / "examples").glob("*.yaml"))
NAMES = ("publish", "nightly", "templates")
PLACE = argo.Place(image="cachefs:1", coordinator="cachefs:9400", token="cachefs-token/token")
HEAD = "apiVersion: cachefs/v1\nkind: Flow\nmetadata: {name: x}\nspec:\n"


def export(text, place=PLACE):
    return argo.export(read_flow(text, name="flow.yaml"), text, place)


def golden(name):
    return export((GOLDEN / f"{name}.flow.yaml").read_text())


def spec_of(document):
    spec = document["spec"]
    return spec["workflowSpec"] if document["kind"] == "CronWorkflow" else spec


def lint(document):
    """Check a workflow as Hera's models do, that they know each of its keys, and that its names fit."""
    kinds = {"Workflow": models.Workflow, "CronWorkflow": models.CronWorkflow}
    model = kinds[document["kind"]].model_validate(document)
    known = json.loads(model.model_dump_json(by_alias=True, exclude_none=True))
    assert _pruned(known) == _pruned(document)
    spec = spec_of(document)
    templates = {one["name"]: one for one in spec["templates"]}
    assert {spec["entrypoint"], spec["onExit"]} <= templates.keys()
    for template in templates.values():
        tasks = {one["name"]: one for one in template.get("dag", {}).get("tasks", [])}
        for name, task in tasks.items():
            assert re.fullmatch("[a-zA-Z][a-zA-Z0-9-]{0,127}", name)
            for one in re.findall(r"[A-Za-z][A-Za-z0-9-]*(?:\.[A-Z]\w+)?", task.get("depends", "")):
                assert one.partition(".")[0] in tasks, one
            wanted = {one["name"] for one in _parameters(templates[task["template"]], "inputs")}
            assert {one["name"] for one in _parameters(task, "arguments")} == wanted


def _parameters(part, key):
    return part.get(key, {}).get("parameters", [])


def _pruned(value):
    """Leave out what says nothing: ``{}`` where a model has a default of its own."""
    if isinstance(value, dict):
        return {key: _pruned(item) for key, item in value.items() if item is not None}
    return [_pruned(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", NAMES)
def test_a_flow_becomes_the_workflow_that_it_always_became(name):
    file = GOLDEN / f"{name}.argo.yaml"
    written = to_yaml(golden(name).document)
    if os.environ.get("CACHEFS_WRITE_GOLDEN"):
        file.write_text(written)
    assert written == file.read_text()


@pytest.mark.parametrize("name", NAMES)
def test_argos_models_accept_what_is_exported_and_know_each_of_its_keys(name):
    document = golden(name).document
    lint(document)
    lint(yaml.safe_load(to_yaml(document)))


def test_argos_models_refuse_a_bad_one():
    document = golden("publish").document
    bad = copy.deepcopy(document)
    bad["spec"]["templates"][0]["dag"]["tasks"] = {"name": "not a list"}
    with pytest.raises(ValidationError):
        lint(bad)
    bad = copy.deepcopy(document)
    bad["spec"]["templates"][0]["dag"]["tasks"][1]["dependz"] = "begin"
    with pytest.raises(AssertionError):
        lint(bad)
    bad = copy.deepcopy(document)
    bad["spec"]["templates"][0]["dag"]["tasks"][1]["depends"] = "begun"
    with pytest.raises(AssertionError):
        lint(bad)


@pytest.mark.parametrize("name", NAMES)
def test_the_document_that_a_workflow_carries_is_the_flow(name):
    text = (GOLDEN / f"{name}.flow.yaml").read_text()
    begin = next(
        one for one in spec_of(golden(name).document)["templates"] if one["name"] == "begin"
    )
    carried = begin["inputs"]["artifacts"][0]["raw"]["data"]
    assert "{{" not in carried
    flow, original = (read_flow(one, name="flow") for one in (carried, text))
    for part in ("steps", "finally_"):
        for one, other in zip(getattr(flow, part), getattr(original, part), strict=True):
            assert (one.id, one.arguments, one.condition) == (
                other.id,
                other.arguments,
                other.condition,
            )


def test_what_needs_something_else_follows_it_also_when_it_fails_if_it_asks_for_that():
    tasks = {
        one["name"]: one.get("depends", "")
        for one in spec_of(golden("publish").document)["templates"][0]["dag"]["tasks"]
    }
    assert tasks["smoke"] == "warm-all && gate"
    assert tasks["report"].startswith("begin.Succeeded && (warm-all.Succeeded || warm-all.Failed")


def test_only_an_approval_that_anybody_may_give_is_one_to_resume():
    publish = json.dumps(golden("publish").document)
    assert '"suspend": {}' in publish
    assert "gate-resume" in publish
    assert "suspend" not in json.dumps(golden("templates").document)


def test_names_that_argo_would_take_for_one_stay_two():
    tasks = spec_of(golden("templates").document)["templates"][0]["dag"]["tasks"]
    assert [one["name"] for one in tasks] == ["begin", "begin-2", "a-b", "a-b-2"]


def test_what_has_no_counterpart_is_told():
    assert golden("nightly").notes == (
        "an event trigger has no counterpart: the coordinator has to start it",
    )
    assert golden("publish").notes == ("no labels to Kubernetes, and left out: a note",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"coordinator": "cachefs"}, "not an address"),
        ({"image": "a b"}, "not an image"),
        ({"token": "token"}, "not a key of a Kubernetes secret"),
    ],
)
def test_a_place_that_is_none_is_refused(change, message):
    given = {"image": "cachefs:1", "coordinator": "cachefs:9400", "token": "a/b", **change}
    with pytest.raises(ConfigError, match=message):
        export(HEAD + "  steps: []\n", argo.Place(**given))


def test_a_flow_that_cron_cannot_start_is_refused():
    text = f"{HEAD}  params: {{model: null}}\n  triggers: [{{cron: '0 3 * * *'}}]\n  steps: []\n"
    with pytest.raises(ConfigError, match=r"params\.model has no value, and cron gives none"):
        export(text)


def test_a_parameter_that_argo_would_change_is_refused():
    with pytest.raises(ConfigError, match=r"params\.model holds \{\{"):
        export(f"{HEAD}  params: {{model: '{{{{x}}}}'}}\n  steps: []\n")


@pytest.mark.slow
def test_a_flow_that_is_too_large_for_one_object_is_refused():
    step = "  - {id: s%d, kind: wait, with: {duration: 1s}}\n"
    text = f"{HEAD}  steps:\n" + "".join(step % number for number in range(6000))
    with pytest.raises(CapacityError, match="the workflow would have"):
        export(text)


def test_the_command_writes_yaml_or_json_and_says_what_was_left_out(tmp_path):
    out = tmp_path / "argo.yaml"
    command = ["flow", "export", str(GOLDEN / "nightly.flow.yaml"), "--to", "argo"]
    command += ["--coordinator", "cachefs:9400", "--image", "cachefs:1"]
    done = CliRunner().invoke(main.app, [*command, "--out", str(out)])
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr.startswith("note: an event trigger has no counterpart")
    shown = CliRunner().invoke(main.app, [*command, "--json"]).stdout
    assert yaml.safe_load(out.read_text()) == json.loads(shown)
    assert out.read_text() == (GOLDEN / "nightly.argo.yaml").read_text()


def test_a_bad_flow_is_not_exported(tmp_path):
    (tmp_path / "bad.yaml").write_text(f"{HEAD}  steps: [{{id: a, kind: waits}}]\n")
    command = ["flow", "export", str(tmp_path / "bad.yaml"), "--to", "argo"]
    done = CliRunner().invoke(main.app, [*command, "--coordinator", "cachefs:9400"])
    assert done.exit_code == 2
    assert "did you mean wait?" in done.stdout


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_every_example_can_be_exported(file):
    document = export(file.read_text()).document
    lint(document)
    tasks = [one for part in spec_of(document)["templates"][:2] for one in part["dag"]["tasks"]]
    flow = read_flow(file.read_text(), name=file.name)
    followed = {
        one["value"]
        for task in tasks
        for one in _parameters(task, "arguments")
        if one["name"] == "step"
    }
    assert followed == {step.id for step in (*flow.steps, *flow.finally_)}
