"""The OpenAPI v3 documents: of Kubernetes' own kinds as published, of custom ones as installed.

kubectl asks them whether the server validates fields (then it leaves that to the server), how lists of a kind merge,
and what ``kubectl explain`` shall say.
"""

import json
from hashlib import sha256
from typing import Final

from cachefs.testing.kubernetes.documents import Document
from cachefs.testing.kubernetes.kinds import Kinds, Resource
from cachefs.testing.kubernetes.shapes import definition_of, definitions

_META: Final = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
_QUERIES: Final = ("dryRun", "fieldManager", "fieldValidation", "force", "pretty")


def open_api(path: str, kinds: Kinds) -> Document | None:
    """Return the document at a path below ``/openapi/v3``; ``None`` when there is none."""
    found = path.removeprefix("/openapi/v3").strip("/")
    listed = {_place(resource): resource for resource in kinds}
    if not found:
        return {"paths": {place: {"serverRelativeURL": _url(place, kinds)} for place in listed}}
    if found not in listed:
        return None
    resources = [resource for resource in kinds if _place(resource) == found]
    schemas: Document = {}
    paths: Document = {}
    for resource in resources:
        name = _name(resource)
        _add(name, _schema(resource), schemas)
        scope = "/namespaces/{namespace}" if resource.namespaced else ""
        base = f"/{found}{scope}/{resource.plural}"
        paths[f"{base}/{{name}}"] = {
            method: _operation(method, resource, name)
            for method in ("get", "put", "patch", "delete")
        }
        paths[base] = {
            "get": _operation("list", resource, name),
            "post": _operation("post", resource, name),
        }
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "v1.32.0"},
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _place(resource: Resource) -> str:
    return f"apis/{resource.api_version}" if resource.group else f"api/{resource.version}"


def _url(place: str, kinds: Kinds) -> str:
    shapes = [resource.shape.schema for resource in kinds if _place(resource) == place]
    mark = sha256(json.dumps(shapes, sort_keys=True).encode()).hexdigest().upper()
    return f"/openapi/v3/{place}?hash={mark}"


def _name(resource: Resource) -> str:
    group = ".".join(reversed(resource.group.split("."))) or "io.k8s.api.core"
    return f"{group}.{resource.version}.{resource.kind}"


def _schema(resource: Resource) -> Document:
    kind = {"group": resource.group, "version": resource.version, "kind": resource.kind}
    found = resource.shape.schema
    if not resource.custom:
        return definition_of(resource.group, resource.version, resource.kind)
    head = {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"$ref": f"#/$defs/{_META}"},
    }
    properties = {**(found.get("properties") or {}), **head}
    return {**found, "properties": properties, "x-kubernetes-group-version-kind": [kind]}


def _add(name: str, schema: Document, schemas: Document) -> None:
    """Add a schema and all that it refers to, with references as OpenAPI v3 writes them."""
    if name in schemas:
        return
    text = json.dumps(schema)
    schemas[name] = json.loads(text.replace("#/$defs/", "#/components/schemas/"))
    for part in text.split('"#/$defs/')[1:]:
        other = part.partition('"')[0]
        _add(other, definitions()[other], schemas)


def _operation(method: str, resource: Resource, name: str) -> Document:
    kind = {"group": resource.group, "version": resource.version, "kind": resource.kind}
    body = {"schema": {"$ref": f"#/components/schemas/{name}"}}
    found: Document = {
        "x-kubernetes-action": method,
        "x-kubernetes-group-version-kind": kind,
        "parameters": [
            {"name": query, "in": "query", "schema": {"type": "string"}} for query in _QUERIES
        ],
        "responses": {"200": {"description": "OK", "content": {"application/json": body}}},
    }
    return found
