"""What each component may do at the API server: as little as it can be, and what it does."""

import ast
from pathlib import Path

import pytest

import cachefs
from cachefs.k8s import kinds, names
from cachefs.k8s.manifests import permissions
from cachefs.k8s.manifests.whole import documents
from tests.unit.k8s.manifests.installations import (
    BARE,
    DEFAULT,
    FULL,
    PLAIN,
    PLAIN_FULL,
    each,
    workloads,
)

WRITES = {"create", "update", "patch", "delete", "deletecollection", "*"}


def granted(wanted, component):
    """Yield ``(namespace, rule)`` for what a component's pods may do; no namespace is all of them."""
    roles = {
        (one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]): one["rules"]
        for one in documents(wanted)
        if one["kind"] in ("Role", "ClusterRole")
    }
    homes = {
        (workload["metadata"]["namespace"], pod["serviceAccountName"])
        for workload, pod in workloads(wanted)
    }
    for binding in documents(wanted):
        if binding["kind"] not in ("RoleBinding", "ClusterRoleBinding"):
            continue
        for subject in binding["subjects"]:
            assert subject["kind"] == "ServiceAccount"
            assert (subject["namespace"], subject["name"]) in homes, "nobody is it"
            if subject["name"] == f"cachefs-{component}":
                reference, namespace = binding["roleRef"], binding["metadata"].get("namespace")
                rules = roles[reference["kind"], namespace, reference["name"]]
                yield from ((namespace, rule) for rule in rules)


@pytest.mark.parametrize("wanted", [PLAIN, PLAIN_FULL], ids=["plain", "plain-full"])
def test_nothing_of_a_plain_installation_has_a_right_in_the_cluster(wanted):
    assert not [one for one in documents(wanted) if "Role" in one["kind"]]
    for _, pod in workloads(wanted):
        assert pod["automountServiceAccountToken"] is False


@each
@pytest.mark.parametrize("component", ["coordinator", "worker", "mounts", "webhook"])
def test_who_never_asks_the_api_server_has_no_right(wanted, component):
    assert list(granted(wanted, component)) == []


@each
def test_what_is_on_every_node_reads_datasets_and_nothing_else(wanted):
    rules = [rule for _, rule in granted(wanted, "csi")]
    expected = {"apiGroups": ["cachefs.io"], "resources": ["datasets"], "verbs": ["get"]}
    assert rules == ([expected] if wanted.has_csi else [])


@each
def test_nobody_can_take_over_the_cluster(wanted):
    """What was exploited in others: patching nodes, running in pods, reading secrets, making roles."""
    for component in ("operator", "csi"):
        for namespace, rule in granted(wanted, component):
            assert "*" not in (*rule["apiGroups"], *rule["resources"], *rule["verbs"])
            resources, verbs = set(rule["resources"]), set(rule["verbs"])
            assert not resources & {"pods/exec", "pods/attach", "pods/portforward", "nodes/proxy"}
            assert not resources & {"serviceaccounts", "serviceaccounts/token"}
            assert "rbac.authorization.k8s.io" not in rule["apiGroups"]
            assert not {"escalate", "bind", "impersonate"} & verbs
            if resources & {"nodes", "nodes/status", "namespaces"}:
                assert not verbs & WRITES
            if "secrets" in resources:
                assert rule["resourceNames"]
                assert namespace == wanted.namespace
                assert not verbs & {"list", "watch", "create", "delete"}
            if "mutatingwebhookconfigurations" in resources:
                assert rule["resourceNames"] == ["cachefs"]


@each
def test_a_right_to_make_is_never_limited_to_names(wanted):
    """A name is not known to the authorizer when an object is made: such a rule would grant nothing."""
    for _, rule in granted(wanted, "operator"):
        if "resourceNames" in rule:
            assert not {"create", "list", "watch", "deletecollection"} & set(rule["verbs"])


def test_rights_for_what_is_not_installed_are_not_given():
    bare = [resource for _, rule in granted(BARE, "operator") for resource in rule["resources"]]
    full = [resource for _, rule in granted(FULL, "operator") for resource in rule["resources"]]
    assert "mutatingwebhookconfigurations" not in bare
    assert "persistentvolumes" not in bare
    assert not {"jobs", "deployments", "replicasets", "pods/log"} & set(bare)
    assert {"mutatingwebhookconfigurations", "persistentvolumes", "jobs"} <= set(full)


def test_the_operators_rights_in_namespaces_are_those_of_ours():
    namespaces = {namespace for namespace, _ in granted(FULL, "operator")}
    assert namespaces == {None, "models", "models-node"}


def test_every_rule_says_why_and_the_table_has_each():
    table = permissions.table()
    for component, rules in permissions.RULES.items():
        for rule in rules:
            assert rule.why
            assert any(
                line.startswith(f"| {component} |") and line.endswith(f"| {rule.why} |")
                for line in table.splitlines()
            )
    assert len(table.splitlines()) == 2 + sum(map(len, permissions.RULES.values()))


def test_all_rules_are_rendered_somewhere():
    rendered = [rule for component in permissions.RULES for _, rule in granted(DEFAULT, component)]
    for rules in permissions.RULES.values():
        for rule in rules:
            assert permissions._rule(rule) in rendered


def _kinds_named_in(*files):
    """Return group and plural of the kinds that source files name."""
    known = {
        name: value
        for module in (kinds, names)
        for name, value in vars(module).items()
        if isinstance(value, names.Kind)
    }
    found = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            name = {ast.Name: "id", ast.Attribute: "attr"}.get(type(node))
            kind = known.get(getattr(node, name)) if name else None
            if kind is not None:
                found.add((kind.group, kind.plural))
    return found


def test_what_the_operator_names_is_granted_and_what_is_granted_is_named():
    """Verbs are held by the operator's own tests, on an API server that knows these rules."""
    folder = Path(cachefs.__file__).parent / "k8s"
    files = [
        *(folder / "operator").rglob("*.py"),
        folder / "webhook" / "renewing.py",
        folder / "observing" / "token.py",
    ]
    granted_kinds = {
        (group, resource)
        for _, rule in granted(FULL, "operator")
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        if "/" not in resource
    }
    unnamed = {("", "events")}  # those of Cluster.tell
    made = {("", "services"), ("policy", "poddisruptionbudgets")}  # by manifests' own functions
    assert granted_kinds - unnamed - made == _kinds_named_in(*files) - made


def test_the_documentation_explains_every_permission():
    text = (Path(cachefs.__file__).parent.parent / "docs" / "KUBERNETES.md").read_text()
    assert permissions.table() in text, "python: print(permissions.table())"
