"""What observes an installation is about what it has: ports, metrics, labels and commands that exist."""

import base64
import json
import re
import shutil
import subprocess
from dataclasses import replace

import kubernetes_validate
import pytest
import yaml
from typer.main import get_command

from cachefs.cli.main import app
from cachefs.config.reading import metrics_token, reading_door
from cachefs.config.secrets import Secret
from cachefs.k8s.installation import Installation
from cachefs.k8s.manifests.whole import objects
from cachefs.k8s.observing import documents
from cachefs.k8s.observing.alerts import rules
from cachefs.k8s.observing.components import present
from cachefs.k8s.observing.dashboard import dashboard
from cachefs.k8s.observing.monitors import TARGET_LABELS
from cachefs.k8s.observing.panels import ROWS
from cachefs.k8s.observing.token import KEY, SECRET, MetricsToken
from cachefs.k8s.observing.warnings import ALERTS
from cachefs.telemetry.metrics import DECLARED
from tests.unit.k8s.observing.trials import TRIALS

WANTED = Installation(image="cachefs:1")
PARTS = present(WANTED)
LESSER = [
    replace(WANTED, csi=False),
    replace(WANTED, webhook=False),
    replace(WANTED, plain=True),
    replace(WANTED, namespace="models", node_namespace="models-node"),
]
CLUSTER = Secret("cluster")
promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="Debian's prometheus")

EXPRESSIONS = {alert.name: alert.expression for alert in ALERTS} | {
    f"{panel.title}: {series.legend}": series.expression
    for row in ROWS
    for panel in row.panels
    for series in panel.series
}
BUILT_IN = {"up"}
OURS = re.compile(r"\b(?:cachefs_\w+|up)\b(\{[^}]*\})?")


def of_kind(found, kind):
    return {each["metadata"]["name"]: each for each in found if each["kind"] == kind}


def plain(expression):
    """Return an expression without Grafana's variables."""
    return expression.replace("$__rate_interval", "5m").replace("$pool", ".*")


def labels_in(expression):
    """Yield each metric with the labels that are asked of it: where it stands, and by what sums around it."""
    grouped = set(
        re.findall(
            r"\w+", " ".join(re.findall(r"\b(?:by|without|on|ignoring) \(([^)]*)\)", expression))
        )
    )
    for match in OURS.finditer(expression):
        name = match[0].partition("{")[0]
        yield name, set(re.findall(r"(\w+)\s*[=!]", match[1] or "")) | grouped


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_an_expression_names_metrics_and_labels_that_exist(name):
    found = list(labels_in(EXPRESSIONS[name]))
    assert found
    for metric, labels in found:
        assert metric in DECLARED.keys() | BUILT_IN
        own = set(DECLARED[metric].labels) if metric in DECLARED else set()
        assert labels <= own | set(TARGET_LABELS)


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_counters_are_asked_for_their_growth_and_gauges_are_not(name):
    expression = EXPRESSIONS[name]
    for metric, _ in labels_in(expression):
        if metric in BUILT_IN:
            continue
        grows = re.search(rf"(?:rate|increase)\({metric}\b", expression) is not None
        assert grows == (DECLARED[metric].kind == "counter")


def test_a_label_that_a_metric_has_not_is_seen():
    assert dict(labels_in('sum by (tire) (cachefs_worker_used_bytes{pool="x"})')) == {
        "cachefs_worker_used_bytes": {"tire", "pool"}
    }


@pytest.mark.parametrize("alert", ALERTS, ids=lambda each: each.name)
def test_an_alert_names_in_its_texts_only_labels_that_it_has(alert):
    for text in (alert.summary, alert.description, alert.runbook):
        assert text
        used = set(re.findall(r"\$labels\.(\w+)", text))
        trial = TRIALS[alert.name]
        assert used <= trial.labels.keys()


def test_runbooks_name_commands_that_there_are():
    command = get_command(app)
    for alert in ALERTS:
        for line in re.findall(r"`cachefs ([a-z ]+)", alert.runbook):
            at = command
            for word in line.split():
                at = at.commands[word]
                if not hasattr(at, "commands"):
                    break


def test_each_alert_is_tried_and_named_once():
    names = [alert.name for alert in ALERTS]
    assert sorted(names) == sorted(TRIALS)
    assert len(set(names)) == len(names)


@promtool
def test_promtool_takes_the_rules_and_every_expression_of_the_dashboard(tmp_path):
    recorded = [
        {"record": f"panel:{at}", "expr": plain(expression)}
        for at, expression in enumerate(EXPRESSIONS.values())
    ]
    (tmp_path / "alerts.yaml").write_text(yaml.safe_dump(rules(PARTS)))
    (tmp_path / "panels.yaml").write_text(
        yaml.safe_dump({"groups": [{"name": "panels", "rules": recorded}]})
    )
    run("check", "rules", "alerts.yaml", "panels.yaml", folder=tmp_path)


@promtool
@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS, ids=lambda each: each.name)
def test_each_alert_fires_when_it_should_and_else_is_silent(part, tmp_path):
    (tmp_path / "alerts.yaml").write_text(yaml.safe_dump(rules([part])))
    tests = [
        tried(alert, series, fires=fires)
        for alert in ALERTS
        if alert.about == part.name
        for fires, series in (
            (True, TRIALS[alert.name].fires),
            (False, TRIALS[alert.name].silent),
            (False, TRIALS[alert.name].silent_too),
        )
        if series
    ]
    document = {"rule_files": ["alerts.yaml"], "evaluation_interval": "1m", "tests": tests}
    (tmp_path / "trials.yaml").write_text(yaml.safe_dump(document))
    run("test", "rules", "trials.yaml", folder=tmp_path)


def tried(alert, series, *, fires):
    trial = TRIALS[alert.name]
    told = {"severity": alert.severity, "component": alert.about, **trial.labels}
    asked = {"eval_time": f"{trial.at}m", "alertname": alert.name}
    # promtool compares texts, too: those with figures in them are not written down twice.
    expression = (
        f"count by ({', '.join(sorted(told))}) "
        f'(ALERTS{{alertname="{alert.name}", alertstate="firing"}})'
    )
    shown = ", ".join(f'{name}="{value}"' for name, value in sorted(told.items()))
    samples = [{"labels": f"{{{shown}}}", "value": 1}] if fires else []
    return {
        "name": f"{alert.name} {'fires' if fires else 'is silent'}",
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {"expr": expression, "eval_time": asked["eval_time"], "exp_samples": samples}
        ],
    }


def run(*words, folder):
    done = subprocess.run(
        ["promtool", *words], cwd=folder, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("wanted", [WANTED, *LESSER])
def test_only_what_is_installed_is_observed(wanted):
    found = documents(wanted)
    parts = {part.name for part in present(wanted)}
    assert of_kind(found, "PodMonitor").keys() == {f"cachefs-{name}" for name in parts}
    (rule,) = of_kind(found, "PrometheusRule").values()
    assert {group["name"] for group in rule["spec"]["groups"]} == {
        f"cachefs-{each}" for each in parts
    }
    for each in found:
        assert each["metadata"]["namespace"] == wanted.namespace


@pytest.mark.parametrize("wanted", [WANTED, *LESSER])
def test_a_monitor_asks_ports_of_pods_that_are_rendered(wanted):
    pods = [
        (each["metadata"]["namespace"], each["spec"]["template"])
        for each in objects(replace(wanted, observing=False))
        if each["kind"] in ("Deployment", "StatefulSet", "DaemonSet")
    ]
    for name, monitor in of_kind(documents(wanted), "PodMonitor").items():
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        labels = monitor["spec"]["selector"]["matchLabels"].items()
        chosen = [
            template
            for namespace, template in pods
            if labels <= template["metadata"]["labels"].items()
            and namespace in monitor["spec"]["namespaceSelector"]["matchNames"]
        ]
        # The operator makes the workers' sets, of the same template as a plain installation.
        assert chosen or name == "cachefs-worker"
        for template in chosen:
            ports = [
                port["name"]
                for container in template["spec"]["containers"]
                for port in container.get("ports", ())
            ]
            assert ports.count(endpoint["port"]) == 1
            assert template["metadata"]["labels"][monitor["spec"]["jobLabel"]] == name


def test_a_plain_installation_shows_the_port_of_its_workers():
    plain_one = replace(WANTED, plain=True)
    found = of_kind(objects(plain_one), "StatefulSet").values()
    assert any(
        port["name"] == "data"
        for each in found
        for container in each["spec"]["template"]["spec"]["containers"]
        for port in container["ports"]
    )


def test_the_objects_of_kubernetes_are_valid():
    for each in documents(WANTED):
        if "/" not in each["apiVersion"]:
            kubernetes_validate.validate(each, "1.34", strict=True)


def test_no_token_is_rendered():
    (secret,) = of_kind(documents(WANTED), "Secret").values()
    assert secret["metadata"]["name"] == SECRET
    assert "data" not in secret
    assert "stringData" not in secret


def test_a_rule_fits_into_what_is_kept_of_an_object():
    for each in documents(WANTED):
        assert len(json.dumps(each)) < 200_000


class TestTheDashboard:
    MODEL = dashboard(PARTS)

    def test_places_no_two_panels_at_one_place(self):
        taken = set()
        for panel in self.MODEL["panels"]:
            place = panel["gridPos"]
            cells = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert not cells & taken, panel["title"]
            assert max(x for x, _ in cells) < 24
            taken |= cells

    def test_numbers_panels_and_letters_queries_once(self):
        numbers = [panel["id"] for panel in self.MODEL["panels"]]
        assert len(set(numbers)) == len(numbers)
        for panel in self.MODEL["panels"]:
            letters = [target["refId"] for target in panel.get("targets", ())]
            assert len(set(letters)) == len(letters)

    def test_uses_only_variables_that_it_has(self):
        own = {variable["name"] for variable in self.MODEL["templating"]["list"]}
        text = json.dumps(self.MODEL["panels"])
        used = set(re.findall(r"\$\{?(\w+)", text))
        assert used <= own | {"__rate_interval"}

    def test_shows_what_people_ask_for(self):
        titles = " ".join(panel["title"].lower() for panel in self.MODEL["panels"])
        for word in ("source", "hit ratio", "origin", "fill", "fullness", "evictions", "warm-ups"):
            assert word in titles
        for word in ("flows", "hints", "mount", "volumes", "operator"):
            assert word in titles

    def test_leaves_out_what_is_not_installed(self):
        lesser = dashboard(present(replace(WANTED, plain=True)))
        assert "cachefs_csi" not in json.dumps(lesser)
        assert "cachefs_csi" in json.dumps(self.MODEL)


class Kept:
    """One secret, as the API server keeps it."""

    def __init__(self, document):
        self.document = document
        self.changes = 0

    def get(self, kind, name, namespace=""):
        return (
            self.document if (kind.kind, name, namespace) == ("Secret", SECRET, "cachefs") else None
        )

    def replace(self, document):
        self.document = document
        self.changes += 1
        return document


def test_the_operator_fills_the_secret_once():
    kept = Kept({"metadata": {"name": SECRET, "resourceVersion": "1"}, "data": {"mine": "eA=="}})
    token = MetricsToken(kept, namespace="cachefs", token=CLUSTER)
    token.work()
    token.work()
    assert kept.changes == 1
    assert kept.document["metadata"]["resourceVersion"] == "1"
    assert kept.document["data"]["mine"] == "eA=="
    written = base64.b64decode(kept.document["data"][KEY]).decode()
    assert reading_door(CLUSTER)("GET", "/metrics", {}, written)


def test_nothing_is_filled_where_nothing_is_observed():
    kept = Kept(None)
    MetricsToken(kept, namespace="cachefs", token=CLUSTER).work()
    assert kept.changes == 0


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/metrics"),
        ("GET", "/v1/view"),
        ("GET", "/v1/cluster"),
        ("GET", "/v1/datasets/team-a/llama"),
        ("GET", "/v1/manifests/abc"),
        ("GET", "/v1/events"),
    ],
)
def test_the_token_of_prometheus_opens_metrics_and_nothing_else(method, path):
    presented = metrics_token(CLUSTER).reveal()
    assert reading_door(CLUSTER)("GET", "/metrics", {}, presented)
    assert not reading_door(CLUSTER)(method, path, {"dataset": ["team-a/llama"]}, presented)
    assert not reading_door(Secret("other"))("GET", "/metrics", {}, presented)
