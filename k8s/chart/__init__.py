"""The Helm chart: made of the same documents as everything else that is installed.

A chart is a set of texts with holes. Here nobody writes them: the manifests are made of *symbolic* values
(:mod:`.symbols`), once for every combination of what may be there or not; what differs between these becomes
``if`` (:mod:`.folding`), and what is symbolic becomes an expression (:mod:`.writing`). So the chart cannot say
anything else than ``cachefs k8s render`` does, and it uses few of the templates' words: ``if``, ``else``,
``quote``, ``int64``, ``toYaml`` and ``nindent``.

``cachefs k8s chart --out DIR`` writes it. It is not kept beside the code: what can be made is not reviewed twice.
"""

import json
from collections.abc import Mapping
from typing import Any

import yaml

import cachefs
from cachefs.k8s import crds
from cachefs.k8s.chart.folding import fold
from cachefs.k8s.chart.symbols import Symbols
from cachefs.k8s.chart.writing import template
from cachefs.k8s.values import VALUES, Value

Document = dict[str, Any]

_KUBERNETES = ">=1.30.0-0"
_NOTES = """\
cachefs is being installed into {{ .Release.Namespace }}.

Its processes share a token, which you make once, in both namespaces:

  token=$(openssl rand -hex 32)
  kubectl -n {{ .Release.Namespace }} create secret generic cachefs-token --from-literal=token=$token
  kubectl -n {{ .Values.nodeNamespace }} create secret generic cachefs-token --from-literal=token=$token

Nothing in {{ .Release.Namespace }} needs a privilege; have the cluster hold it to that:

  kubectl label namespace {{ .Release.Namespace }} pod-security.kubernetes.io/enforce=restricted

Helm never changes custom resources once they are there. After an upgrade:

  kubectl apply --server-side --force-conflicts -f crds/

`cachefs k8s doctor` says whether all is well.
"""
_FILES = {
    "Namespace": "namespaces",
    "ServiceAccount": "accounts",
    "NetworkPolicy": "network",
    "Role": "permissions",
    "RoleBinding": "permissions",
    "ClusterRole": "permissions",
    "ClusterRoleBinding": "permissions",
}
_SCHEMAS: Mapping[str, Document] = {
    "text": {"type": "string"},
    "size": {"type": "string"},
    "number": {"type": "integer"},
    "switch": {"type": "boolean"},
    "texts": {"type": "array", "items": {"type": "string"}},
    "labels": {"type": "object", "additionalProperties": {"type": "string"}},
    "objects": {"type": "array", "items": {"type": "object"}},
}


def files() -> dict[str, str]:
    """Return the chart: the text of each file, by its path."""
    found = {
        "Chart.yaml": _head(),
        "values.yaml": _values(),
        "values.schema.json": json.dumps(_schema(), indent=2) + "\n",
        "templates/NOTES.txt": _NOTES,
    }
    for definition in crds.documents():
        name = definition["spec"]["names"]["plural"]
        found[f"crds/{name}.yaml"] = yaml.safe_dump(definition, sort_keys=False)
    symbols = Symbols()
    by_file: dict[str, list[str]] = {}
    for document in fold(symbols.documents, symbols.switches):
        file = _FILES.get(document.kind, document.component)
        by_file.setdefault(file, []).append(template(document, symbols))
    for name, texts in by_file.items():
        found[f"templates/{name}.yaml"] = "# Made by `cachefs k8s chart`.\n" + "".join(texts)
    return found


def _head() -> str:
    head = {
        "apiVersion": "v2",
        "name": "cachefs",
        "description": "A data-aware cache for model files",
        "type": "application",
        "version": cachefs.__version__,
        "appVersion": cachefs.__version__,
        "kubeVersion": _KUBERNETES,
    }
    return yaml.safe_dump(head, sort_keys=False)


def _values() -> str:
    lines: list[str] = []
    group = ""
    for value in sorted(VALUES, key=lambda value: "." in value.path):
        first, dot, name = value.path.rpartition(".")
        if first != group:
            group = first
            lines += ["", f"{group}:"]
        pad = "  " if dot else ""
        default = json.dumps(value.default if value.form != "labels" else dict(value.default))
        lines += [f"{pad}# {value.what}", f"{pad}{name}: {default}"]
    return "\n".join(lines) + "\n"


def _schema() -> Document:
    properties: dict[str, Any] = {
        # What Helm hands to a chart that is part of another.
        "global": {"type": "object"}
    }
    for value in VALUES:
        group, dot, name = value.path.partition(".")
        if dot:
            inner = properties.setdefault(group, _closed({}))
            inner["properties"][name] = _schema_of(value)
            inner["required"] = list(inner["properties"])
        else:
            properties[value.path] = _schema_of(value)
    needed = [name for name in properties if name != "global"]
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        **_closed(properties),
        "required": needed,
    }


def _closed(properties: dict[str, Any]) -> Document:
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _schema_of(value: Value) -> Document:
    schema: Document = {"description": value.what, **_SCHEMAS[value.form]}
    if value.form == "number":
        schema["minimum"] = value.least
    elif value.form == "texts":
        schema["items"] = {"type": "string", "pattern": value.pattern}
    elif value.pattern:
        schema["pattern"] = value.pattern
    return schema
