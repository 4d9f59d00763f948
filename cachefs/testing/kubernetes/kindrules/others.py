"""The rules of the other kinds: services, content, storage, scaling, roles, webhooks."""

import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from cachefs.testing.kubernetes.documents import Document
from cachefs.testing.kubernetes.failures import Cause
from cachefs.testing.kubernetes.kindrules.causes import (
    a_label,
    between,
    duplicate,
    exactly_one,
    forbidden,
    invalid,
    one_of,
    required,
)
from cachefs.testing.kubernetes.kindrules.pods import resource_faults

_CONTENT_BYTES_MAX: Final = 1024 * 1024
_KEY: Final = re.compile(r"[-._a-zA-Z0-9]+")
_ACCESS: Final = ("ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod")
_VOLUME_FIELDS: Final = frozenset(
    [
        *("capacity", "accessModes", "claimRef", "persistentVolumeReclaimPolicy", "nodeAffinity"),
        *("storageClassName", "mountOptions", "volumeMode", "volumeAttributesClassName"),
    ]
)
"""Of a persistent volume's spec, what is not its source."""


def service_faults(document: Document) -> Iterator[Cause]:
    """Go through what is wrong with a service."""
    spec = document.get("spec") or {}
    ports = spec.get("ports") or []
    headless = spec.get("clusterIP") == "None"
    if not ports and not headless and spec.get("type") != "ExternalName":
        yield required("spec.ports")
    names: set[str] = set()
    for index, port in enumerate(ports):
        at = f"spec.ports[{index}]"
        yield from between(f"{at}.port", port.get("port"), 1, 65535)
        if len(ports) > 1:
            yield from a_label(f"{at}.name", port.get("name"))
        if port.get("name") in names:
            yield duplicate(f"{at}.name", port["name"])
        names.add(port.get("name", index))


def content_faults(document: Document) -> Iterator[Cause]:
    """Go through what is wrong with a config map or a secret."""
    size = 0
    for field in ("data", "binaryData"):
        for key, value in (document.get(field) or {}).items():
            size += len(key) + len(str(value))
            if not _KEY.fullmatch(key) or len(key) > 253:
                why = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'"
                yield invalid(f"{field}[{key}]", key, why)
    if size > _CONTENT_BYTES_MAX:
        yield Cause(
            "FieldValueTooLong", f"Too long: may not be more than {_CONTENT_BYTES_MAX} bytes", ""
        )


def claim_faults(document: Document) -> Iterator[Cause]:
    """Go through what is wrong with a persistent volume claim."""
    spec = document.get("spec") or {}
    yield from _access_faults(spec)
    if not ((spec.get("resources") or {}).get("requests") or {}).get("storage"):
        yield required("spec.resources[storage]")
    yield from resource_faults(spec.get("resources") or {}, "spec.resources")


def volume_faults(document: Document) -> Iterator[Cause]:
    """Go through what is wrong with a persistent volume."""
    spec = document.get("spec") or {}
    yield from _access_faults(spec)
    if not (spec.get("capacity") or {}).get("storage"):
        yield required("spec.capacity")
    sources = [name for name in spec if name not in _VOLUME_FIELDS]
    yield from exactly_one("spec", sources, "a volume type")
    csi = spec.get("csi")
    if csi is not None:
        for name in ("driver", "volumeHandle"):
            if not csi.get(name):
                yield required(f"spec.csi.{name}")
    policies = ("Delete", "Recycle", "Retain")
    policy = spec.get("persistentVolumeReclaimPolicy")
    yield from one_of("spec.persistentVolumeReclaimPolicy", policy, policies)


def _access_faults(spec: Document) -> Iterator[Cause]:
    if not spec.get("accessModes"):
        yield required("spec.accessModes", "at least 1 access mode is required")
    for mode in spec.get("accessModes") or ():
        yield from one_of("spec.accessModes", mode, _ACCESS)


def budget_faults(document: Document) -> Iterator[Cause]:
    """Go through what is wrong with a disruption budget."""
    spec = document.get("spec") or {}
    if spec.get("minAvailable") is not None and spec.get("maxUnavailable") is not None:
        yield invalid("spec", spec, "minAvailable and maxUnavailable cannot be both set")


def autoscaler_faults(document: Document) -> Iterator[Cause]:
    """Go through what is wrong with a horizontal pod autoscaler."""
    spec = document.get("spec") or {}
    least, most = spec.get("minReplicas", 1), spec.get("maxReplicas", 0)
    if least < 1:
        yield invalid("spec.minReplicas", least, "must be greater than or equal to 1")
    if most < 1:
        yield invalid("spec.maxReplicas", most, "must be greater than 0")
    elif most < least:
        yield invalid("spec.maxReplicas", most, "must be greater than or equal to `minReplicas`")
    for name in ("kind", "name"):
        if not (spec.get("scaleTargetRef") or {}).get(name):
            yield required(f"spec.scaleTargetRef.{name}")


def lease_faults(document: Document) -> Iterator[Cause]:
    """Go through what is wrong with a lease."""
    spec = document.get("spec") or {}
    seconds = spec.get("leaseDurationSeconds")
    if seconds is not None and seconds <= 0:
        yield invalid("spec.leaseDurationSeconds", seconds, "must be greater than 0")
    if (spec.get("leaseTransitions") or 0) < 0:
        value = spec["leaseTransitions"]
        yield invalid("spec.leaseTransitions", value, "must be greater than or equal to 0")


def role_faults(document: Document) -> Iterator[Cause]:
    """Go through what is wrong with a role of a namespace."""
    for index, rule in enumerate(document.get("rules") or ()):
        if rule.get("nonResourceURLs"):
            why = "namespaced rules cannot apply to non-resource URLs"
            yield invalid(f"rules[{index}].nonResourceURLs", rule["nonResourceURLs"], why)
    yield from cluster_role_faults(document)


def cluster_role_faults(document: Document) -> Iterator[Cause]:
    """Go through what is wrong with any role."""
    for index, rule in enumerate(document.get("rules") or ()):
        at = f"rules[{index}]"
        if not rule.get("verbs"):
            yield required(f"{at}.verbs", "verbs must contain at least one value")
        if rule.get("nonResourceURLs"):
            continue
        for name, word in (("apiGroups", "api group"), ("resources", "resource")):
            if not rule.get(name):
                yield required(f"{at}.{name}", f"resource rules must supply at least one {word}")


def webhook_faults(document: Document) -> Iterator[Cause]:
    """Go through what is wrong with a configuration of webhooks."""
    names: set[str] = set()
    for index, hook in enumerate(document.get("webhooks") or ()):
        at = f"webhooks[{index}]"
        name = str(hook.get("name", ""))
        if name.count(".") < 2:
            why = "should be a domain with at least three segments separated by dots"
            yield invalid(f"{at}.name", name, why)
        if name in names:
            yield duplicate(f"{at}.name", name)
        names.add(name)
        if hook.get("sideEffects") is None:
            yield required(f"{at}.sideEffects", "must specify one of None, NoneOnDryRun")
        yield from one_of(f"{at}.sideEffects", hook.get("sideEffects"), ("None", "NoneOnDryRun"))
        yield from one_of(f"{at}.failurePolicy", hook.get("failurePolicy"), ("Fail", "Ignore"))
        yield from between(f"{at}.timeoutSeconds", hook.get("timeoutSeconds"), 1, 30)
        if "v1" not in (hook.get("admissionReviewVersions") or ()):
            why = "must include at least one of v1, v1beta1"
            yield invalid(f"{at}.admissionReviewVersions", hook.get("admissionReviewVersions"), why)
        yield from _client_faults(hook.get("clientConfig") or {}, f"{at}.clientConfig")
        for number, rule in enumerate(hook.get("rules") or ()):
            for field in ("operations", "apiGroups", "apiVersions", "resources"):
                if not rule.get(field):
                    yield required(f"{at}.rules[{number}].{field}")


def _client_faults(client: Document, path: str) -> Iterator[Cause]:
    ways = [name for name in ("url", "service") if client.get(name)]
    if len(ways) != 1:
        yield required(path, "exactly one of url or service is required")
    elif ways == ["url"]:
        parts = urlsplit(client["url"])
        if parts.scheme != "https":
            yield invalid(f"{path}.url", client["url"], "'https' is the only allowed URL scheme")
        if parts.query or parts.fragment:
            yield forbidden(f"{path}.url", "no query and no fragment")
    else:
        for name in ("name", "namespace"):
            if not client["service"].get(name):
                yield required(f"{path}.service.{name}")
