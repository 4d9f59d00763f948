"""The checks of ``cachefs k8s doctor``: one function for each thing that can be wrong on a cluster."""

import base64
import binascii
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from cachefs.cli.findings import Finding
from cachefs.config.units import format_duration
from cachefs.errors import CacheFSError, NotKnownError
from cachefs.k8s import crds, kinds
from cachefs.k8s.calls import Document
from cachefs.k8s.cluster import Cluster
from cachefs.k8s.installing.applying import LEAST_VERSION
from cachefs.k8s.installing.differences import differences
from cachefs.k8s.installing.readiness import (
    OURS,
    condition,
    unready_definitions,
    unready_workloads,
)
from cachefs.k8s.manifests.parts import TOKEN_SECRET
from cachefs.k8s.manifests.webhook import SECRET
from cachefs.k8s.names import CACHE_POOLS, DATASETS, DRIVER, FLOWS
from cachefs.k8s.operator.leading import LEASE
from cachefs.k8s.webhook.trusting import problem_with
from cachefs.ports import Runtime

_LEADER_SILENT_SECONDS = 60.0
"""Of a lease that is renewed every few seconds."""
_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """Looks at an installation, and changes nothing."""

    cluster: Cluster
    runtime: Runtime
    namespace: str
    node_namespace: str

    def findings(self) -> Iterator[Finding]:
        """Yield what every check finds; without an API server, there is one."""
        try:
            version = self.cluster.version()
        except CacheFSError as error:
            yield Finding("API server", "problem", str(error), "see `kubectl version`")
            return
        yield from self._version(version)
        deployments = self._deployments()
        if not deployments:
            advice = "`cachefs k8s install --image …`, or --namespace where it is"
            yield Finding("installation", "problem", f"nothing in {self.namespace}", advice)
            return
        is_whole = "cachefs-operator" in deployments
        shape = "with the operator" if is_whole else "plain: coordinator and workers only"
        yield Finding("installation", "ok", f"in {self.namespace}, {shape}")
        checks: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
            ("namespaces", lambda: self._namespaces(is_whole=is_whole)),
            ("token", lambda: self._token(is_whole=is_whole)),
            ("pods", self._pods),
        ]
        if is_whole:
            checks += [
                ("custom resources", self._definitions),
                ("leader", self._leader),
                ("objects", self._objects),
            ]
        if "cachefs-webhook" in deployments:
            checks.append(("webhook", self._webhook))
        if is_whole and self.cluster.get(kinds.CSI_DRIVERS, DRIVER) is not None:
            checks.append(("CSI driver", self._driver))
        for name, check in checks:
            try:
                yield from check()
            except CacheFSError as error:
                yield Finding(name, "problem", f"cannot look: {error}")

    def _version(self, version: tuple[int, int]) -> Iterator[Finding]:
        text = f"Kubernetes {version[0]}.{version[1]}"
        if version < LEAST_VERSION:
            least = f"{LEAST_VERSION[0]}.{LEAST_VERSION[1]}"
            yield Finding("API server", "problem", text, f"use {least} or newer")
        else:
            yield Finding("API server", "ok", text)

    def _deployments(self) -> set[str]:
        found = self.cluster.find(kinds.DEPLOYMENTS, self.namespace, labels=OURS)
        return {one["metadata"]["name"] for one in found}

    def _both(self, *, is_whole: bool) -> list[str]:
        return [self.namespace, self.node_namespace] if is_whole else [self.namespace]

    def _namespaces(self, *, is_whole: bool) -> Iterator[Finding]:
        levels = {self.namespace: "restricted", self.node_namespace: "privileged"}
        for name in self._both(is_whole=is_whole):
            found = self.cluster.get(kinds.NAMESPACES, name)
            label = "pod-security.kubernetes.io/enforce"
            level = ((found or {}).get("metadata") or {}).get("labels", {}).get(label)
            if found is None:
                yield Finding("namespaces", "problem", f"{name} is missing", "install again")
            elif level == levels[name]:
                yield Finding("namespaces", "ok", f"{name} is held to {level}")
            else:
                grave = levels[name] == "privileged"
                yield Finding(
                    "namespaces",
                    "problem" if grave else "note",
                    f"{name} is held to {level or 'nothing'}",
                    f"kubectl label --overwrite namespace {name} {label}={levels[name]}",
                )

    def _token(self, *, is_whole: bool) -> Iterator[Finding]:
        tokens = {}
        for namespace in self._both(is_whole=is_whole):
            secret = self.cluster.get(kinds.SECRETS, TOKEN_SECRET, namespace)
            tokens[namespace] = ((secret or {}).get("data") or {}).get("token", "")
        lacking = [namespace for namespace, token in tokens.items() if not token]
        if lacking:
            where = ", ".join(f"{namespace}/{TOKEN_SECRET}" for namespace in lacking)
            advice = "`cachefs k8s install` makes or copies it; pods wait until then"
            yield Finding("token", "problem", f"there is no {where}", advice)
        elif len(set(tokens.values())) > 1:
            advice = "delete the wrong one, and install again: it is then copied from the other"
            yield Finding("token", "problem", "the namespaces have different tokens", advice)
        else:
            yield Finding("token", "ok", f"the same in {' and '.join(tokens)}")

    def _pods(self) -> Iterator[Finding]:
        missing = unready_workloads(self.cluster, [self.namespace, self.node_namespace])
        for one in missing:
            yield Finding("pods", "note" if one.is_meant else "problem", one.what, one.advice)
        if not missing:
            yield Finding("pods", "ok", "all are ready")

    def _definitions(self) -> Iterator[Finding]:
        names = [one["metadata"]["name"] for one in crds.documents()]
        unready = unready_definitions(self.cluster, names)
        for line in unready:
            advice = "`cachefs k8s install`, or kubectl apply --server-side -f crds/ of the chart"
            yield Finding("custom resources", "problem", line, advice)
        if unready:
            return
        others = [
            one["metadata"]["name"]
            for one in crds.documents()
            if any(
                differences(self.cluster.get(kinds.CUSTOM_RESOURCES, one["metadata"]["name"]), one)
            )
        ]
        if others:
            yield Finding(
                "custom resources",
                "problem",
                f"of another version than this command: {', '.join(others)}",
                "install again; Helm never changes them: kubectl apply --server-side -f crds/",
            )
        else:
            yield Finding("custom resources", "ok", f"{len(names)} kinds, of this version")

    def _leader(self) -> Iterator[Finding]:
        lease = self.cluster.get(kinds.LEASES, LEASE, self.namespace)
        spec = (lease or {}).get("spec") or {}
        holder, renewed = spec.get("holderIdentity"), spec.get("renewTime")
        if not holder or not renewed:
            advice = f"kubectl -n {self.namespace} logs deploy/cachefs-operator"
            yield Finding("leader", "problem", "no pod of the operator leads", advice)
            return
        at = datetime.fromisoformat(str(renewed))
        silent = self.runtime.wall() - at.astimezone(UTC).timestamp()
        if silent > _LEADER_SILENT_SECONDS:
            advice = f"kubectl -n {self.namespace} logs deploy/cachefs-operator; or clocks differ"
            text = f"{holder} was last heard of {format_duration(silent)} ago"
            yield Finding("leader", "problem", text, advice)
        else:
            yield Finding("leader", "ok", holder)

    def _objects(self) -> Iterator[Finding]:
        for kind in (CACHE_POOLS, DATASETS, FLOWS):
            try:
                found = self.cluster.find(kind)
            except NotKnownError:
                continue  # which is said of the definitions
            bad = [(one, problem) for one in found if (problem := _problem(one))]
            for one, problem in bad[:_SHOWN]:
                namespace, name = one["metadata"]["namespace"], one["metadata"]["name"]
                advice = f"kubectl -n {namespace} describe {kind.plural}.{kind.group} {name}"
                text = f"{kind.kind} {namespace}/{name}: {problem}"
                yield Finding("objects", "note", text, advice)
            if len(bad) > _SHOWN:
                text = f"and {len(bad) - _SHOWN} more of kind {kind.kind}"
                yield Finding("objects", "note", text, f"kubectl get -A {kind.plural}.{kind.group}")
            if found and not bad:
                noun = kind.plural if len(found) > 1 else kind.kind.lower()
                yield Finding("objects", "ok", f"{len(found)} {noun}")

    def _webhook(self) -> Iterator[Finding]:
        configuration = self.cluster.get(kinds.MUTATING_WEBHOOKS, "cachefs")
        secret = self.cluster.get(kinds.SECRETS, SECRET, self.namespace)
        if configuration is None or secret is None:
            what = "configuration" if configuration is None else f"secret {SECRET}"
            yield Finding("webhook", "problem", f"its {what} is missing", "install again")
            return
        bundles = [_plain(one["clientConfig"].get("caBundle")) for one in configuration["webhooks"]]
        serving = _plain((secret.get("data") or {}).get("tls.crt"))
        problem = problem_with(serving, bundles, self.namespace, self.runtime.wall())
        if problem:
            advice = f"the operator renews it within a minute; kubectl -n {self.namespace} logs deploy/cachefs-operator"
            yield Finding("webhook", "problem", problem, advice)
        else:
            yield Finding("webhook", "ok", "its certificate is good, and trusted")

    def _driver(self) -> Iterator[Finding]:
        nodes = {
            one["metadata"]["name"]: {
                driver["name"] for driver in (one.get("spec") or {}).get("drivers") or ()
            }
            for one in self.cluster.find(kinds.CSI_NODES)
        }
        labels = {**OURS, "app.kubernetes.io/component": "cachefs-csi"}
        pods = self.cluster.find(kinds.PODS, self.node_namespace, labels=labels)
        there = {str(pod["spec"].get("nodeName")) for pod in pods}
        lacking = sorted(name for name, drivers in nodes.items() if DRIVER not in drivers)
        if not nodes:
            yield Finding("CSI driver", "note", "no nodes yet", "kubectl get csinodes")
            return
        if not lacking:
            on = f"all {len(nodes)} nodes" if len(nodes) > 1 else "the one node"
            yield Finding("CSI driver", "ok", f"registered on {on}")
            return
        unregistered = [name for name in lacking if name in there]
        elsewhere = [name for name in lacking if name not in there]
        if unregistered:
            advice = (
                f"kubectl -n {self.node_namespace} logs ds/cachefs-csi --all-containers; "
                "on distributions with another folder: csi.kubeletFolder"
            )
            yield Finding(
                "CSI driver", "problem", f"not registered on {_some(unregistered)}", advice
            )
        if elsewhere:
            advice = "pods there cannot have volumes of datasets, if that is not meant"
            yield Finding("CSI driver", "note", f"no pod of it on {_some(elsewhere)}", advice)


def _problem(document: Document) -> str:
    """Return what an object's conditions say is wrong; empty if nothing is."""
    if not (document.get("status") or {}).get("conditions"):
        return "not seen by the operator yet"
    for name in ("Ready", "Valid", "Synced"):
        if condition(document, name) == "False":
            return condition(document, name, "message") or condition(document, name, "reason") or ""
    return ""


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}"


def _plain(encoded: object) -> bytes:
    try:
        return base64.b64decode(str(encoded or ""), validate=True)
    except binascii.Error:
        return b""
