"""The rules of a pod's spec, in pods and in templates."""

import re
from collections.abc import Iterator
from typing import Final

from cachefs.testing.kubernetes.documents import Document
from cachefs.testing.kubernetes.failures import Cause
from cachefs.testing.kubernetes.kindrules.causes import (
    a_label,
    between,
    duplicate,
    exactly_one,
    forbidden,
    invalid,
    not_found,
    one_of,
    required,
)
from cachefs.testing.kubernetes.quantities import quantity

_PORT_NAME: Final = re.compile(r"(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*")
_HANDLERS: Final = ("exec", "httpGet", "tcpSocket", "grpc")
_PROBES: Final = ("livenessProbe", "readinessProbe", "startupProbe")
_HOST_PATHS: Final = (
    "",
    "DirectoryOrCreate",
    "Directory",
    "FileOrCreate",
    "File",
    "Socket",
    "CharDevice",
    "BlockDevice",
)


def faults(spec: Document, path: str) -> Iterator[Cause]:
    """Go through what is wrong with a pod's spec."""
    if not spec.get("containers"):
        yield required(f"{path}.containers")
    volumes = spec.get("volumes") or []
    yield from _volume_faults(volumes, path, spec)
    names: set[str] = set()
    for kind in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(kind) or ()):
            at = f"{path}.{kind}[{index}]"
            if container.get("name") in names:
                yield duplicate(f"{at}.name", container["name"])
            names.add(container.get("name", ""))
            known = {volume.get("name") for volume in volumes}
            yield from _container_faults(container, at, known, spec)
            if kind == "initContainers":
                yield from _init_faults(container, at)
    yield from one_of(
        f"{path}.restartPolicy", spec.get("restartPolicy"), ("Always", "OnFailure", "Never")
    )
    policies = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
    yield from one_of(f"{path}.dnsPolicy", spec.get("dnsPolicy"), policies)
    if (spec.get("terminationGracePeriodSeconds") or 0) < 0:
        value = spec["terminationGracePeriodSeconds"]
        yield invalid(
            f"{path}.terminationGracePeriodSeconds", value, "must be greater than or equal to 0"
        )
    for index, toleration in enumerate(spec.get("tolerations") or ()):
        yield from _toleration_faults(toleration, f"{path}.tolerations[{index}]")
    for index, spread in enumerate(spec.get("topologySpreadConstraints") or ()):
        yield from _spread_faults(spread, f"{path}.topologySpreadConstraints[{index}]")


def _volume_faults(volumes: list[Document], path: str, spec: Document) -> Iterator[Cause]:
    del spec
    names: set[str] = set()
    for index, volume in enumerate(volumes):
        at = f"{path}.volumes[{index}]"
        name = volume.get("name", "")
        yield from a_label(f"{at}.name", name)
        if name in names:
            yield duplicate(f"{at}.name", name)
        names.add(name)
        yield from exactly_one(at, (key for key in volume if key != "name"), "a volume type")
        host = volume.get("hostPath")
        if host is not None:
            if not host.get("path"):
                yield required(f"{at}.hostPath.path")
            elif ".." in host["path"].split("/"):
                yield invalid(f"{at}.hostPath.path", host["path"], "must not contain '..'")
            yield from one_of(f"{at}.hostPath.type", host.get("type"), _HOST_PATHS)
        if volume.get("csi") is not None and not volume["csi"].get("driver"):
            yield required(f"{at}.csi.driver")
        for kind, key in (("configMap", "name"), ("secret", "secretName")):
            if volume.get(kind) is not None and not volume[kind].get(key):
                yield required(f"{at}.{kind}.{key}")


def _container_faults(
    container: Document, path: str, volumes: set[str | None], spec: Document
) -> Iterator[Cause]:
    yield from a_label(f"{path}.name", container.get("name"))
    if not container.get("image"):
        yield required(f"{path}.image")
    policies = ("Always", "IfNotPresent", "Never")
    yield from one_of(f"{path}.imagePullPolicy", container.get("imagePullPolicy"), policies)
    yield from _mount_faults(container, path, volumes)
    yield from _port_faults(container, path, host_network=bool(spec.get("hostNetwork")))
    for index, variable in enumerate(container.get("env") or ()):
        yield from _variable_faults(variable, f"{path}.env[{index}]")
    yield from resource_faults(container.get("resources") or {}, f"{path}.resources")
    for name in _PROBES:
        if container.get(name) is not None:
            yield from _probe_faults(
                container[name], f"{path}.{name}", ready=name == "readinessProbe"
            )
    for name in ("postStart", "preStop"):
        handler = (container.get("lifecycle") or {}).get(name)
        if handler is not None:
            kinds = [kind for kind in (*_HANDLERS[:3], "sleep") if kind in handler]
            yield from exactly_one(f"{path}.lifecycle.{name}", kinds, "a handler type")
    yield from _security_faults(container.get("securityContext") or {}, path)


def _mount_faults(container: Document, path: str, volumes: set[str | None]) -> Iterator[Cause]:
    privileged = (container.get("securityContext") or {}).get("privileged")
    paths: set[str] = set()
    for index, mount in enumerate(container.get("volumeMounts") or ()):
        at = f"{path}.volumeMounts[{index}]"
        if mount.get("name") not in volumes:
            yield not_found(f"{at}.name", mount.get("name", ""))
        if not mount.get("mountPath"):
            yield required(f"{at}.mountPath")
        elif mount["mountPath"] in paths:
            yield invalid(f"{at}.mountPath", mount["mountPath"], "must be unique")
        paths.add(mount.get("mountPath", ""))
        if mount.get("mountPropagation") == "Bidirectional" and not privileged:
            why = "Bidirectional mount propagation is available only to privileged containers"
            yield forbidden(f"{at}.mountPropagation", why)
        if str(mount.get("subPath", "")).startswith("/"):
            yield invalid(f"{at}.subPath", mount["subPath"], "must be a relative path")


def _port_faults(container: Document, path: str, *, host_network: bool) -> Iterator[Cause]:
    names: set[str] = set()
    for index, port in enumerate(container.get("ports") or ()):
        at = f"{path}.ports[{index}]"
        number, name = port.get("containerPort"), port.get("name")
        if not number:
            yield required(f"{at}.containerPort")
        yield from between(f"{at}.containerPort", number, 1, 65535)
        yield from one_of(f"{at}.protocol", port.get("protocol"), ("TCP", "UDP", "SCTP"))
        if name is not None:
            if len(name) > 15 or not _PORT_NAME.fullmatch(name):
                why = "must be no more than 15 characters: lower case alphanumerics, '-', and a letter"
                yield invalid(f"{at}.name", name, why)
            if name in names:
                yield duplicate(f"{at}.name", name)
            names.add(name)
        if host_network and port.get("hostPort") not in (None, number):
            yield invalid(
                f"{at}.hostPort",
                port["hostPort"],
                "must match `containerPort` when `hostNetwork` is true",
            )


def _variable_faults(variable: Document, path: str) -> Iterator[Cause]:
    if not variable.get("name"):
        yield required(f"{path}.name")
    elif "=" in variable["name"]:
        yield invalid(
            f"{path}.name", variable["name"], "a valid environment variable name has no '='"
        )
    source = variable.get("valueFrom")
    if source is not None:
        if variable.get("value"):
            yield invalid(f"{path}.valueFrom", "", "may not be specified when `value` is not empty")
        if len(source) != 1:
            yield invalid(f"{path}.valueFrom", "", "must specify exactly one source")


def resource_faults(resources: Document, path: str) -> Iterator[Cause]:
    """Go through what is wrong with requests and limits."""
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    for kind, values in (("limits", limits), ("requests", requests)):
        for name, text in values.items():
            found = quantity(text)
            if found is None or found < 0:
                yield invalid(f"{path}.{kind}[{name}]", text, "must be greater than or equal to 0")
    for name, text in requests.items():
        most, least = quantity(limits.get(name, text)), quantity(text)
        if most is not None and least is not None and least > most:
            why = f"must be less than or equal to {name} limit of {limits[name]}"
            yield invalid(f"{path}.requests", text, why)


def _probe_faults(probe: Document, path: str, *, ready: bool) -> Iterator[Cause]:
    kinds = [kind for kind in _HANDLERS if kind in probe]
    yield from exactly_one(path, kinds, "a handler type")
    if not ready and probe.get("successThreshold", 1) != 1:
        yield invalid(f"{path}.successThreshold", probe["successThreshold"], "must be 1")


def _security_faults(context: Document, path: str) -> Iterator[Cause]:
    if context.get("allowPrivilegeEscalation") is False:
        added = (context.get("capabilities") or {}).get("add") or ()
        what = "`privileged` to true" if context.get("privileged") else ""
        what = what or ("`capabilities.Add` CAP_SYS_ADMIN" if "CAP_SYS_ADMIN" in added else "")
        if what:
            why = f"cannot set `allowPrivilegeEscalation` to false and {what}"
            yield invalid(f"{path}.securityContext", context, why)


def _init_faults(container: Document, path: str) -> Iterator[Cause]:
    yield from one_of(f"{path}.restartPolicy", container.get("restartPolicy"), ("Always",))
    if container.get("restartPolicy") == "Always":
        return  # a sidecar may do what containers do
    for name in ("lifecycle", *_PROBES):
        if container.get(name) is not None:
            why = "may not be set for init containers without restartPolicy=Always"
            yield forbidden(f"{path}.{name}", why)


def _toleration_faults(toleration: Document, path: str) -> Iterator[Cause]:
    operator = toleration.get("operator") or "Equal"
    yield from one_of(f"{path}.operator", operator, ("Equal", "Exists"))
    if not toleration.get("key") and operator != "Exists":
        yield invalid(f"{path}.operator", operator, "operator must be Exists when `key` is empty")
    if operator == "Exists" and toleration.get("value"):
        yield invalid(
            f"{path}.operator", toleration, "value must be empty when `operator` is 'Exists'"
        )
    if toleration.get("tolerationSeconds") is not None and toleration.get("effect") != "NoExecute":
        why = "effect must be 'NoExecute' when `tolerationSeconds` is set"
        yield invalid(f"{path}.effect", toleration.get("effect"), why)


def _spread_faults(spread: Document, path: str) -> Iterator[Cause]:
    if (spread.get("maxSkew") or 0) <= 0:
        yield invalid(f"{path}.maxSkew", spread.get("maxSkew"), "must be greater than zero")
    if not spread.get("topologyKey"):
        yield required(f"{path}.topologyKey", "can not be empty")
    ways = ("DoNotSchedule", "ScheduleAnyway")
    yield from one_of(f"{path}.whenUnsatisfiable", spread.get("whenUnsatisfiable"), ways)
