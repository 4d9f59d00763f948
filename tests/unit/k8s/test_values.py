"""A file of values says what flags say, and what it does not know it refuses."""

import dataclasses
import subprocess
import sys

import pytest
import yaml
from typer.testing import CliRunner

from cachefs.cli import main
from cachefs.config.schema import GIB
from cachefs.errors import ConfigError
from cachefs.k8s.installation import Installation
from cachefs.k8s.manifests.whole import documents
from cachefs.k8s.values import VALUES, document_of, installation

FILE = """
image: example/cachefs:1
nodeNamespace: models-node
coordinator: {storeSecret: store}
pool:
  workers: 5
  memory: 1Gi
  zones: [a, b]
  nodeSelector: {gpu: h100}
  tolerations: [{key: gpu, operator: Exists}]
csi:
webhook: {enabled: false}
"""
SAID = Installation(
    image="example/cachefs:1",
    node_namespace="models-node",
    store_secret="store",
    workers=5,
    memory_bytes=GIB,
    zones=("a", "b"),
    node_selector={"gpu": "h100"},
    tolerations=({"key": "gpu", "operator": "Exists"},),
    webhook=False,
)


def test_a_file_says_what_is_installed():
    assert installation(yaml.safe_load(FILE)) == SAID


def test_what_is_said_besides_wins():
    assert installation(yaml.safe_load(FILE), workers=7) == dataclasses.replace(SAID, workers=7)


def test_defaults_are_those_of_the_installation():
    document = {}
    for value in VALUES:
        group, dot, name = value.path.partition(".")
        if dot:
            document.setdefault(group, {})[name] = value.default
        else:
            document[group] = value.default
    document["image"] = "example/cachefs:1"
    assert installation(document) == Installation(image="example/cachefs:1")


def test_every_field_but_the_namespace_and_the_shape_can_be_said():
    fields = {field.name for field in dataclasses.fields(Installation)}
    assert {value.field for value in VALUES} == fields - {"namespace", "plain"}


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("{}", "image"),
        ("image: {a: b}", "image"),
        ("{image: a, imag: b}", "imag"),
        ("{image: a, pool: {disks: 1Gi}}", "pool.disks"),
        ("{image: a, pool: [1]}", "pool"),
        ("{image: a, pool: {disk: much}}", "pool.disk"),
        ("{image: a, pool: {disk: ''}}", "disk"),
        ("{image: a, pool: {workers: '3'}}", "pool.workers"),
        ("{image: a, pool: {workers: true}}", "pool.workers"),
        ("{image: a, pool: {zones: a}}", "pool.zones"),
        ("{image: a, pool: {nodeSelector: {gpu: 1}}}", "pool.nodeSelector"),
        ("{image: a, pool: {tolerations: [a]}}", "pool.tolerations"),
        ("{image: a, csi: {enabled: 'yes'}}", "csi.enabled"),
        ("{image: a, nodeNamespace: ''}", "node_namespace"),
        ("{image: a, tenants: {sources: 's3://x'}}", "s3://x"),
        ("- image", "file"),
    ],
)
def test_what_makes_no_sense_is_named(text, where):
    with pytest.raises(ConfigError, match=where):
        installation(yaml.safe_load(text))


def test_a_name_that_is_nearly_known_is_asked_about():
    with pytest.raises(ConfigError) as raised:
        installation({"image": "a", "pool": {"disks": "1Gi"}})
    assert raised.value.hint == "did you mean pool.disk?"
    with pytest.raises(ConfigError, match=r"chart/values\.yaml"):
        installation({"image": "a", "zzz": 1})


def test_what_was_said_is_told_so_that_it_says_the_same_again():
    assert installation(document_of(SAID)) == SAID
    assert document_of(Installation(image="a", workers=5)) == {"image": "a", "pool": {"workers": 5}}
    assert installation({"image": "a", "tenants": {"sources": ""}}) == Installation(image="a")


@pytest.mark.parametrize(
    "name",
    ["cachefs", "my/cachefs:1", "Example.com:5000/a/b-c__d:V1", f"a/b:1@sha256:{'0f' * 32}"],
)
def test_an_images_name_is_taken_as_runtimes_take_it(name):
    assert Installation(image=name).image == name


@pytest.mark.parametrize(
    "name", ["my/Cachefs:1", "Cachefs", "a/b:", "a//b", "a/b:1:2", "-a", "a b", "a" * 256]
)
def test_what_no_runtime_would_pull_is_refused(name):
    with pytest.raises(ConfigError, match="not an image's name"):
        Installation(image=name)


def test_a_file_that_is_no_yaml_is_said_in_one_line(tmp_path):
    file = tmp_path / "values.yaml"
    file.write_text("image: a\npool: [\n")
    done = CliRunner().invoke(main.app, ["k8s", "render", "--values", str(file)])
    assert str(done.exception).startswith(f"{file}:3: not YAML: ")
    assert "\n" not in str(done.exception)
    done = CliRunner().invoke(main.app, ["k8s", "render", "--values", str(tmp_path / "none")])
    assert (
        str(done.exception) == f"{tmp_path}/none: cannot read the file: no such file or directory"
    )


def test_the_command_prints_what_kubectl_takes(tmp_path):
    (tmp_path / "values.yaml").write_text(FILE)
    words = f"k8s render --values {tmp_path}/values.yaml --namespace models --workers 7 --webhook"
    done = CliRunner().invoke(main.app, words.split())
    assert done.exit_code == 0, done.output
    assert "    {\n" in done.stdout, "a configuration is written line by line"
    printed = list(yaml.safe_load_all(done.stdout))
    wanted = dataclasses.replace(SAID, workers=7, namespace="models", webhook=True)
    assert printed == yaml.safe_load(yaml.safe_dump(documents(wanted)))


def test_flags_alone_say_a_plain_installation():
    words = (
        "k8s render --plain --image example/cachefs:1 --disk 1TiB --memory 1GiB --zone a --zone b"
    )
    done = CliRunner().invoke(main.app, [*words.split(), "--node-selector", "gpu=h100"])
    assert done.exit_code == 0, done.output
    wanted = Installation(
        image="example/cachefs:1",
        plain=True,
        disk_bytes=1024 * GIB,
        memory_bytes=GIB,
        zones=("a", "b"),
        node_selector={"gpu": "h100"},
    )
    assert list(yaml.safe_load_all(done.stdout)) == documents(wanted)


@pytest.mark.slow
def test_whoever_only_renders_needs_none_of_kubernetes_own_packages():
    script = (
        "import sys; sys.modules.update(dict.fromkeys(['kubernetes', 'kopf', 'cryptography']));"
        "from cachefs.cli.main import run; sys.argv[1:] = sys.argv[1].split(); sys.exit(run())"
    )

    def run(words):
        command = [sys.executable, "-c", script, words]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    rendered = run("k8s render --image example/cachefs:1 --observing")
    assert rendered.returncode == 0, rendered.stderr
    installed = run("k8s install --image example/cachefs:1")
    assert installed.returncode == 2
    assert 'pip install "cachefs-ai[kubernetes]"' in installed.stderr
    assert "Traceback" not in installed.stderr
