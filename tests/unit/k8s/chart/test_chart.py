"""The chart installs what `cachefs k8s render` prints, whatever is asked for."""

import json
import random

import jsonschema
import pytest
import yaml
from typer.testing import CliRunner

from cachefs.cli import main
from cachefs.errors import ConfigError
from cachefs.k8s import chart
from cachefs.k8s.crds import documents as definitions
from cachefs.k8s.manifests.whole import documents
from cachefs.k8s.values import VALUES, installation
from tests.unit.k8s.chart.helm import UnknownWordError, rendered

FILES = chart.files()
SCHEMA = json.loads(FILES["values.schema.json"])
FULL = {
    "image": "example/cachefs@sha256:0011",
    "imagePullSecret": "pull",
    "nodeNamespace": "models-node",
    "originsSecret": "buckets",
    "tenants": {
        "trusted": "ops-*,ml",
        "sources": "team-a=s3://team-a-*,*=hf://*",
        "destinations": "team-a=s3://team-a-backups/*",
    },
    "coordinator": {"storeSecret": "store"},
    "pool": {
        "workers": 1_000_000,
        "disk": "200Gi",
        "memory": "3Gi",
        "storageClass": "local-nvme",
        "zones": ["a", "b"],
        "nodeSelector": {"example.com/gpu": "true", "size": "8"},
        "tolerations": [{"key": "gpu", "operator": "Exists"}, {"key": "b", "value": "on"}],
    },
    "csi": {"enabled": True, "kubeletFolder": "/var/lib/k0s/kubelet"},
    "webhook": {"enabled": True},
    "flows": {"programs": True},
    "observing": {"enabled": True},
}
DEFAULTS = yaml.safe_load(FILES["values.yaml"])


def _over(below, above):
    """Return values over others, as Helm lays a user's over the chart's own."""
    both = dict(below)
    for name, value in above.items():
        is_group = isinstance(value, dict) and isinstance(both.get(name), dict)
        both[name] = _over(both[name], value) if is_group and name in GROUPS else value
    return both


GROUPS = {value.path.partition(".")[0] for value in VALUES if "." in value.path}


def _drawn(seed):
    """Return values, some of which are as in ``FULL`` and others as they are without being said."""
    chance = random.Random(seed)
    said = {"image": FULL["image"]}
    for value in VALUES:
        group, dot, name = value.path.partition(".")
        if chance.random() < 0.5:
            full = FULL[group][name] if dot else FULL[group]
            if value.form == "switch":
                full = not value.default
            if dot:
                said.setdefault(group, {})[name] = full
            else:
                said[group] = full
    return said


CASES = {"least": {"image": "example/cachefs:1"}, "full": FULL} | {
    f"drawn-{seed}": _drawn(seed) for seed in range(24)
}


@pytest.mark.parametrize("said", CASES.values(), ids=CASES)
def test_the_chart_installs_what_is_rendered(said):
    values = _over(DEFAULTS, said)
    jsonschema.validate(values, SCHEMA)
    found = [
        document
        for name, text in FILES.items()
        if name.startswith("templates/") and name.endswith(".yaml")
        for document in yaml.safe_load_all(rendered(text, values, "models"))
        if document is not None
    ]
    expected = [
        one
        for one in documents(installation(said, namespace="models"))
        if one["kind"] != "CustomResourceDefinition"
        and (one["kind"], one["metadata"]["name"]) != ("Namespace", "models")
    ]
    plain = yaml.safe_load(yaml.safe_dump(expected))  # tuples are lists, once they were written
    assert sorted(found, key=_key) == sorted(plain, key=_key)


def _key(document):
    metadata = document["metadata"]
    return document["kind"], metadata.get("namespace", ""), metadata["name"]


def test_the_definitions_are_those_of_the_code():
    found = [yaml.safe_load(text) for name, text in FILES.items() if name.startswith("crds/")]
    assert found == definitions()


def test_no_symbol_is_left_and_every_value_is_used():
    templates = "".join(text for name, text in FILES.items() if name.startswith("templates/"))
    assert "zq9" not in templates
    assert "73100" not in templates
    for value in VALUES:
        assert f".Values.{value.path} " in templates, value.path


def test_defaults_fit_the_schema_but_for_the_image_that_nobody_knows():
    with pytest.raises(jsonschema.ValidationError, match="''"):
        jsonschema.validate(DEFAULTS, SCHEMA)
    jsonschema.validate(_over(DEFAULTS, {"image": "a"}), SCHEMA)


@pytest.mark.parametrize(
    "wrong",
    [
        {"imag": "b"},
        {"pool": {"disks": "1Gi"}},
        {"pool": {"disk": ""}},
        {"pool": {"disk": '1Gi"'}},
        {"pool": {"workers": -1}},
        {"pool": {"workers": "3"}},
        {"pool": {"zones": ["a b"]}},
        {"csi": {"kubeletFolder": "/var/{{ x }}"}},
        {"csi": {"enabled": "true"}},
        {"image": 'a" b'},
    ],
)
def test_what_a_template_would_make_nonsense_of_is_refused_by_the_schema(wrong):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(_over(DEFAULTS, {"image": "a", **wrong}), SCHEMA)


def test_the_notes_can_be_rendered():
    notes = rendered(FILES["templates/NOTES.txt"], DEFAULTS, "models")
    assert "kubectl -n models create secret" in notes
    assert "kubectl -n cachefs-node create secret" in notes


def test_the_head_is_what_helm_needs():
    head = yaml.safe_load(FILES["Chart.yaml"])
    assert head["apiVersion"] == "v2"
    assert len(head["version"].split(".")) == 3


@pytest.mark.parametrize(
    "text",
    [
        "{{ .Values.nothing }}",
        "{{ .Values.image | upper }}",
        "{{ include x . }}",
        "{{- if .Values.image }}",
        "{{- end }}",
        "{{- if .Values.csi.enabled }}{{- else if .Values.image }}{{- end }}",
        "{{ int64 image }}",
    ],
)
def test_the_interpreter_takes_nothing_that_it_does_not_know(text):
    with pytest.raises(UnknownWordError):
        rendered(text, DEFAULTS, "models")


def test_the_interpreter_trims_as_go_does():
    values = {"image": "a", "pool": {"zones": []}}
    text = "a: 1\n{{- if .Values.image }}\nb: {{ .Values.image | quote }}\n{{- end }}\nc: 2\n"
    assert rendered(text, values, "n") == 'a: 1\nb: "a"\nc: 2\n'
    text = "a: 1\n{{- if .Values.pool.zones }}\nb: 1\n{{- else }}\nd: 1\n{{- end }}\nc: 2\n"
    assert rendered(text, values, "n") == "a: 1\nd: 1\nc: 2\n"
    assert rendered("l: {{- toYaml .Values.pool | nindent 2 }}\n", values, "n") == (
        "l:\n  zones: []\n"
    )
    assert rendered('{{ "{{" }} $labels.pod }}', values, "n") == "{{ $labels.pod }}"


def test_the_command_writes_the_chart_and_overwrites_nothing(tmp_path):
    folder = tmp_path / "chart"
    words = ["k8s", "chart", "--out", str(folder)]
    done = CliRunner().invoke(main.app, words)
    assert done.exit_code == 0, done.output
    assert isinstance(CliRunner().invoke(main.app, words).exception, ConfigError)
    written = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    assert written == set(FILES)
    assert (folder / "values.yaml").read_text() == FILES["values.yaml"]
