"""The Pod Security Standards: what a namespace's label ``pod-security.kubernetes.io/enforce`` keeps out.

``privileged`` lets everything in, ``baseline`` what is known to lead out of a container, ``restricted`` also what
hardening asks for. Pods are refused; of what makes pods, people are warned.
"""

from collections.abc import Iterator
from typing import Final

from cachefs.testing.kubernetes.documents import Document
from cachefs.testing.kubernetes.failures import forbidden
from cachefs.testing.kubernetes.requests import Request

LABEL: Final = "pod-security.kubernetes.io/"
_HARMLESS: Final = frozenset(
    [
        *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD"),
        *("NET_BIND_SERVICE", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"),
    ]
)
_VOLUMES: Final = frozenset(
    [
        *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image"),
        *("persistentVolumeClaim", "projected", "secret"),
    ]
)
_PROFILES: Final = ("RuntimeDefault", "Localhost")


def violations(level: str, spec: Document) -> list[str]:
    """Return how a pod's spec violates a level, in the words of the admission controller."""
    if level not in ("baseline", "restricted"):
        return []
    found = list(_baseline(spec))
    return [*found, *_restricted(spec)] if level == "restricted" else found


def guard(request: Request, space: Document, document: Document) -> None:
    """Hold a new pod to what its namespace enforces; warn about what makes pods that will be refused.

    Raises:
        Refusal: 403, the pod violates the level.
    """
    labels = space["metadata"].get("labels") or {}
    is_pod = request.resource.stored == ("", "pods")
    if is_pod:
        level, spec = labels.get(f"{LABEL}enforce", ""), document.get("spec") or {}
    else:
        template = (document.get("spec") or {}).get("template")
        level = labels.get(f"{LABEL}warn", "")
        spec = template.get("spec") or {} if isinstance(template, dict) else {}
    found = violations(level, spec) if spec.get("containers") else []
    if not found:
        return
    why = f'violate PodSecurity "{level}:latest": {", ".join(found)}'
    if is_pod:
        raise forbidden(f'pods "{request.name}"', why.replace("violate", "violates", 1))
    request.warnings.append(f"would {why}")


def _containers(spec: Document) -> Iterator[Document]:
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        yield from spec.get(kind) or ()


def _contexts(spec: Document) -> Iterator[tuple[str, Document]]:
    for container in _containers(spec):
        yield container.get("name", ""), container.get("securityContext") or {}


def _baseline(spec: Document) -> Iterator[str]:
    hosts = [name for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name)]
    if hosts:
        yield f"host namespaces ({', '.join(f'{name}=true' for name in hosts)})"
    for volume in spec.get("volumes") or ():
        if "hostPath" in volume:
            yield f'hostPath volumes (volume "{volume["name"]}")'
    for container in _containers(spec):
        if any(port.get("hostPort") for port in container.get("ports") or ()):
            yield f'hostPort (container "{container["name"]}")'
    yield from _privileges(spec)
    for name, context in (("pod", spec.get("securityContext") or {}), *_contexts(spec)):
        if (context.get("seccompProfile") or {}).get("type") == "Unconfined":
            yield f"seccompProfile ({name} must not set securityContext.seccompProfile.type to Unconfined)"
    sysctls = (spec.get("securityContext") or {}).get("sysctls") or ()
    unsafe = [each["name"] for each in sysctls if each["name"] not in _SYSCTLS]
    if unsafe:
        yield f"forbidden sysctls ({', '.join(unsafe)})"


def _privileges(spec: Document) -> Iterator[str]:
    for name, context in _contexts(spec):
        if context.get("privileged"):
            yield f'privileged (container "{name}" must not set securityContext.privileged=true)'
        added = set((context.get("capabilities") or {}).get("add") or ()) - _HARMLESS
        if added:
            yield f'non-default capabilities (container "{name}" must not include {sorted(added)})'
        if context.get("procMount") not in (None, "Default"):
            yield f'procMount (container "{name}" must not set securityContext.procMount)'


_SYSCTLS: Final = frozenset(
    [
        *("kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.tcp_syncookies"),
        *("net.ipv4.ping_group_range", "net.ipv4.ip_unprivileged_port_start"),
        *("net.ipv4.ip_local_reserved_ports", "net.ipv4.tcp_keepalive_time"),
        *(
            "net.ipv4.tcp_fin_timeout",
            "net.ipv4.tcp_keepalive_intvl",
            "net.ipv4.tcp_keepalive_probes",
        ),
    ]
)


def _restricted(spec: Document) -> Iterator[str]:
    for volume in spec.get("volumes") or ():
        kinds = [
            kind for kind in volume if kind not in ("name", "hostPath") and kind not in _VOLUMES
        ]
        if kinds:
            yield f'restricted volume types (volume "{volume["name"]}" uses type "{kinds[0]}")'
    pod = spec.get("securityContext") or {}
    for name, context in _contexts(spec):
        if context.get("allowPrivilegeEscalation") is not False:
            yield f'allowPrivilegeEscalation != false (container "{name}")'
        yield from _capabilities(name, context)
        if context.get("runAsNonRoot", pod.get("runAsNonRoot")) is not True:
            yield f'runAsNonRoot != true (pod or container "{name}" must set securityContext.runAsNonRoot=true)'
        profile = context.get("seccompProfile") or pod.get("seccompProfile") or {}
        if profile.get("type") not in _PROFILES:
            yield f'seccompProfile (pod or container "{name}" must set securityContext.seccompProfile.type)'
    for name, context in (("pod", pod), *_contexts(spec)):
        if context.get("runAsUser") == 0:
            yield f"runAsUser=0 ({name} must not set runAsUser=0)"


def _capabilities(name: str, context: Document) -> Iterator[str]:
    capabilities = context.get("capabilities") or {}
    if "ALL" not in (capabilities.get("drop") or ()):
        yield f'unrestricted capabilities (container "{name}" must set capabilities.drop=["ALL"])'
    elif set(capabilities.get("add") or ()) - {"NET_BIND_SERVICE"}:
        yield f'unrestricted capabilities (container "{name}" may add NET_BIND_SERVICE only)'
