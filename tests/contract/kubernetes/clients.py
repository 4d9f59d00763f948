"""A client that shows every byte of what a server answers, and objects to send it."""

import http.client
import json
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit


@dataclass
class Answer:
    code: int
    body: dict
    headers: dict

    def __getitem__(self, name):
        return self.body[name]

    @property
    def version(self):
        return self.body["metadata"]["resourceVersion"]

    @property
    def reason(self):
        return self.body.get("reason")

    @property
    def causes(self):
        return self.body["details"]["causes"]


class Client:
    """Raw HTTP to one server; each call is one request on a connection of its own."""

    def __init__(self, server, token=""):
        self.server = server
        self.token = token

    def request(self, method, path, body=None, *, kind="application/json", **query):
        connection = http.client.HTTPConnection(urlsplit(self.server.url).netloc, timeout=20)
        try:
            data = body if isinstance(body, str | None) else json.dumps(body)
            path = f"{path}?{urlencode(query)}" if query else path
            headers = {"Content-Type": kind, "User-Agent": "contract/1"}
            if self.token:
                headers["Authorization"] = f"Bearer {self.token}"
            connection.request(method, path, data, headers)
            answer = connection.getresponse()
            return Answer(answer.status, json.loads(answer.read()), dict(answer.getheaders()))
        finally:
            connection.close()

    def get(self, path, **query):
        return self.request("GET", path, **query)

    def post(self, path, body, **query):
        return self.request("POST", path, body, **query)

    def put(self, path, body, **query):
        return self.request("PUT", path, body, **query)

    def merge(self, path, body, **query):
        return self.request("PATCH", path, body, kind="application/merge-patch+json", **query)

    def strategic(self, path, body, **query):
        kind = "application/strategic-merge-patch+json"
        return self.request("PATCH", path, body, kind=kind, **query)

    def apply(self, path, body, manager="me", **query):
        kind = "application/apply-patch+yaml"
        return self.request("PATCH", path, body, kind=kind, fieldManager=manager, **query)

    def delete(self, path, body=None, **query):
        return self.request("DELETE", path, body, **query)

    def watch(self, path, *, seconds=0.2, **query):
        """Return what a watch brings until its time is up; this server takes parts of a second."""
        connection = http.client.HTTPConnection(urlsplit(self.server.url).netloc, timeout=20)
        try:
            query = {"watch": "1", "timeoutSeconds": seconds, **query}
            connection.request("GET", f"{path}?{urlencode(query)}")
            answer = connection.getresponse()
            return [json.loads(line) for line in answer.read().splitlines()]
        finally:
            connection.close()


MAPS = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"
THINGS = "/apis/example.com/v1/namespaces/default/things"


def definition(properties, *, rules=(), plural="things", kind="Thing", **version):
    """Return the definition of a custom resource whose spec has these properties."""
    spec = {"type": "object", "properties": properties}
    if rules:
        spec["x-kubernetes-validations"] = list(rules)
    schema = {
        "type": "object",
        "properties": {
            "spec": spec,
            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        },
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.example.com"},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"plural": plural, "kind": kind, "singular": kind.lower()},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "schema": {"openAPIV3Schema": schema},
                    **version,
                }
            ],
        },
    }


def thing(name, **spec):
    return {
        "apiVersion": "example.com/v1",
        "kind": "Thing",
        "metadata": {"name": name},
        "spec": spec,
    }


def config_map(name, labels=None, **data):
    metadata = {"name": name, **({"labels": labels} if labels else {})}
    inside = {"data": data} if data else {}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, **inside}
