"""Programs of steps as Jobs: what is made for one, and what is told of it. Pure.

A program is one Job with one pod that is never started again; what a retry is, the flow decides. The Job is
named by the program, so that whoever makes it a second time finds it made.

Pods run as nobody in particular, may do nothing on the cluster and little on their node: they pass where
namespaces demand the *restricted* profile. Their datasets are volumes of the CSI driver.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from cachefs.errors import ConfigError
from cachefs.hints.renderings.marks import HINT_ID
from cachefs.k8s.kinds import JOBS
from cachefs.k8s.names import DRIVER, MANAGED_BY, OPERATOR, PROGRAM, QUEUE, RUN, STEP
from cachefs.k8s.operator.actions import Document

CONTAINER = "program"
KEPT_SECONDS = 86400
"""A Job that is over goes after a day: an operator that was away for so long finds how it ended."""
GRACE_SECONDS = 5
"""Between a program's SIGTERM and its end. The step that was cancelled does not wait for it."""
USER = 65532
"""Nobody's, as of many images without a distribution."""
OUTPUTS = "/dev/termination-log"
"""What is written there is the message of the container's end, of which the kubelet keeps 4096 bytes."""
_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", re.ASCII)
_SECRET = re.compile(r"secret:([^/]+)/(.+)", re.ASCII)
_NOTE_LENGTH_MAX = 500

State = Literal["claimed", "starting", "running", "ended"]


@dataclass(frozen=True, slots=True)
class Program:
    """A program that is wanted, as the coordinator hands it out."""

    id: str
    run: str
    step: str
    namespace: str
    state: str
    stop: bool
    wanted: Mapping[str, Any]  # Any: JSON

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "Program":  # Any: JSON
        """Return the program of a document of ``GET /v1/handed``."""
        return cls(
            document["id"],
            document["run"],
            document["step"],
            document["namespace"],
            document["state"],
            document["stop"],
            document["wanted"],
        )

    @property
    def job(self) -> str:
        """Return the name of its Job."""
        return f"cachefs-{self.id}"

    @property
    def datasets(self) -> list[dict[str, str]]:
        """What it reads, as a question for hints names it."""
        return [
            {"name": one["dataset"], **({"revision": one["version"]} if one["version"] else {})}
            for one in self.wanted["mounts"]
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is to be done about a program."""

    begin: bool = False
    """Make its Job."""
    remove: Document | None = None
    """The Job that is to go."""
    state: State | None = None
    """To be told, with ``report``; ``None`` for nothing new."""
    report: Document = field(default_factory=dict)
    read_log: str = ""
    """The pod whose log is to be told with it."""


def labels_of(program: Program, owner: str) -> dict[str, str]:
    """Return the labels of what is made for a program; ``owner`` is the operator's namespace."""
    names = {RUN: program.run, STEP: program.step}
    fitting = {name: value for name, value in names.items() if _LABEL.fullmatch(value)}
    return {MANAGED_BY: "cachefs", OPERATOR: owner, PROGRAM: program.id, **fitting}


def job_of(program: Program, *, owner: str, affinity: Document, hint: str = "") -> Document:
    """Return the Job of a program.

    Args:
        program: The program.
        owner: The operator's namespace.
        affinity: ``nodeAffinity``, of where its datasets are; empty for none.
        hint: The id of the hint that says so.

    Raises:
        ConfigError: Kubernetes has no such thing.
    """
    wanted = program.wanted
    labels = labels_of(program, owner)
    annotations = {RUN: program.run, STEP: program.step}
    pod: Document = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(wanted)],
        "volumes": [_volume(at, one) for at, one in enumerate(wanted["mounts"])],
    }
    if affinity:
        pod["affinity"] = {"nodeAffinity": affinity}
    queue = {QUEUE: wanted["queue"]} if wanted["queue"] else {}
    marks = {**annotations, **({HINT_ID: hint} if hint else {})}
    return {
        "apiVersion": JOBS.api_version,
        "kind": JOBS.kind,
        "metadata": {
            "name": program.job,
            "namespace": program.namespace,
            "labels": {**labels, **queue},
            "annotations": annotations,
        },
        "spec": {
            "completions": 1,
            "parallelism": 1,
            "backoffLimit": 0,
            "activeDeadlineSeconds": max(1, math.ceil(wanted["seconds"])),
            "ttlSecondsAfterFinished": KEPT_SECONDS,
            "template": {"metadata": {"labels": labels, "annotations": marks}, "spec": pod},
        },
    }


def _container(wanted: Mapping[str, Any]) -> Document:  # Any: JSON
    variables = {"HOME": "/tmp", "CACHEFS_OUTPUTS": OUTPUTS, **wanted["variables"]}  # noqa: S108
    container: Document = {
        "name": CONTAINER,
        "image": wanted["image"],
        "command": [_plain(word) for word in wanted["command"]],
        "env": [
            *({"name": name, "value": _plain(value)} for name, value in variables.items()),
            *({"name": name, **_from(value)} for name, value in wanted["secrets"].items()),
        ],
        "resources": _resources(wanted["resources"]),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
        "terminationMessagePath": OUTPUTS,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": f"dataset-{at}", "mountPath": one["path"], "readOnly": True}
            for at, one in enumerate(wanted["mounts"])
        ],
    }
    if wanted["workdir"]:
        container["workingDir"] = wanted["workdir"]
    return container


def _plain(value: str) -> str:
    """Return what Kubernetes makes the value of: ``$(NAME)`` would be a variable, and ``$$`` is one ``$``."""
    return value.replace("$", "$$")


def _from(reference: str) -> Document:
    match = _SECRET.fullmatch(reference)
    if match is None:
        raise ConfigError("not a reference to a secret of a cluster", subject=reference)
    return {"valueFrom": {"secretKeyRef": {"name": match[1], "key": match[2]}}}


def _resources(wanted: Mapping[str, Any]) -> Document:  # Any: JSON
    """Return requests, and limits of what cannot be squeezed: memory and accelerators."""
    requests: dict[str, str] = {}
    limits: dict[str, str] = {}
    if wanted["cpu"]:
        requests["cpu"] = f"{math.ceil(wanted['cpu'] * 1000)}m"
    if wanted["memory"]:
        requests["memory"] = limits["memory"] = str(int(wanted["memory"]))
    if wanted["gpu"]:
        if wanted["gpu"] != int(wanted["gpu"]):
            raise ConfigError(
                "Kubernetes gives whole accelerators", subject=f"gpu: {wanted['gpu']}"
            )
        limits["nvidia.com/gpu"] = str(int(wanted["gpu"]))
    return {
        **({"requests": requests} if requests else {}),
        **({"limits": limits} if limits else {}),
    }


def _volume(at: int, mount: Mapping[str, str]) -> Document:
    attributes = {"dataset": mount["dataset"]}
    if mount["version"]:
        attributes["version"] = mount["version"]
    return {
        "name": f"dataset-{at}",
        "csi": {"driver": DRIVER, "readOnly": True, "volumeAttributes": attributes},
    }


# ---- what is there ------------------------------------------------------------------------------


def judge(program: Program, job: Document | None, pods: Sequence[Document]) -> Verdict:
    """Say what is to be done about a program, and told of it.

    Args:
        program: As the coordinator had it before the rest was looked at.
        job: Its Job, if there is one.
        pods: Those that have its label.
    """
    if job is None:
        return _without_job(program, pods)
    over = _condition(job, "Complete") or _condition(job, "Failed")
    pod = max(pods, key=lambda one: one["metadata"].get("creationTimestamp", ""), default=None)
    ended = _pod_end(pod) if pod is not None else None
    if ended is None and over:
        ended = _job_end(over)
    if ended is not None:
        return ended
    if program.stop:
        leaving = job["metadata"].get("deletionTimestamp")
        return Verdict(remove=None if leaving else job)
    return _lasting(program, job, pod)


def pods_of(job: Document | None, pods: Sequence[Document]) -> list[Document]:
    """Return which pods a Job has made, of those with a program's labels; of none that is gone, all.

    Anybody can give a pod labels; the uid of a Job is in a pod that its controller has made.
    """
    if job is None:
        return list(pods)
    uid = job["metadata"]["uid"]
    return [
        pod
        for pod in pods
        if any(one.get("uid") == uid for one in pod["metadata"].get("ownerReferences") or ())
    ]


def taken(program: Program, job: Document) -> Verdict:
    """Say what becomes of a program whose name a Job has that we did not see before."""
    if (job["metadata"].get("labels") or {}).get(PROGRAM) == program.id:
        return Verdict(state="starting", report={"note": f"Job {program.job}"})
    return _ended(failure=f"there is another Job {program.job}")


def _without_job(program: Program, pods: Sequence[Document]) -> Verdict:
    lives = [one for one in pods if _phase(one) not in ("Succeeded", "Failed")]
    if lives:
        return Verdict()  # they are being ended: its Job was removed
    if program.stop:
        return _ended(stopped=True)
    if program.state in ("wanted", "claimed"):
        return Verdict(begin=True)
    return _ended(lost=True, note=f"somebody removed Job {program.job}")


def _pod_end(pod: Document) -> Verdict | None:
    """Return how a program ended; ``None`` if it has not."""
    found = _container_state(pod).get("terminated")
    status = pod.get("status") or {}
    disrupted = _condition(pod, "DisruptionTarget")
    if found is None:
        if _phase(pod) in ("Failed", "Succeeded"):
            return _ended(lost=True, note=_words(status.get("reason"), status.get("message")))
        return None
    started, over = _seconds(found.get("startedAt")), _seconds(found.get("finishedAt"))
    message = str(found.get("message", ""))
    code = int(found.get("exitCode", -1))
    reason = str(found.get("reason", ""))
    lost = bool(disrupted) or status.get("reason") == "Evicted"
    what: Document = {
        "code": code,
        "started_at": started,
        "seconds": max(0.0, over - started),
        "outputs": message if code == 0 else "",
        "log": message if code else "",
    }
    if reason in ("StartError", "ContainerCannotRun"):
        what |= {"failure": _words(reason, message), "log": "", "code": None}
    elif lost:
        told = disrupted or {"reason": status.get("reason"), "message": status.get("message")}
        what |= {"lost": True, "note": _words(told.get("reason"), told.get("message"))}
    elif reason not in ("", "Completed", "Error"):
        what["note"] = reason
    name = pod["metadata"]["name"]
    return Verdict(state="ended", report=what, read_log=name)


def _job_end(over: Mapping[str, Any]) -> Verdict:  # Any: JSON
    """Return how a Job ended whose pod says nothing, or is gone."""
    if over["type"] == "Complete":
        return _ended(code=0)
    return _ended(lost=True, note=_words(over.get("reason"), over.get("message")))


def _lasting(program: Program, job: Document, pod: Document | None) -> Verdict:
    where = f"Job {program.job}"
    if (job.get("spec") or {}).get("suspend"):
        queue = program.wanted["queue"]
        return _starting(f"{where} waits in queue {queue}" if queue else f"{where} is suspended")
    if pod is None:
        return _starting(f"{where} has no pod yet")
    state = _container_state(pod)
    running = state.get("running")
    if running is not None:
        return Verdict(
            state="running",
            report={"started_at": _seconds(running.get("startedAt")), "note": where},
        )
    waiting = state.get("waiting") or {}
    reason, message = waiting.get("reason"), waiting.get("message")
    if reason in ("CreateContainerConfigError", "InvalidImageName"):
        # The kubelet would try for ever; nothing but another Job could help.
        return Verdict(
            remove=job, state="ended", report={"failure": _words(reason, message), "code": None}
        )
    if reason is None:
        unplaced = _condition(pod, "PodScheduled", "False") or {}
        reason, message = unplaced.get("reason"), unplaced.get("message")
    return _starting(f"{where}: {_words(reason, message)}" if reason else where)


def _starting(note: str) -> Verdict:
    return Verdict(state="starting", report={"note": note[:_NOTE_LENGTH_MAX]})


def _ended(**report: Any) -> Verdict:  # Any: each as in the report
    return Verdict(state="ended", report={"code": None, **report})


def _condition(
    found: Document, kind: str, status: str = "True"
) -> Mapping[str, Any] | None:  # Any: JSON
    for one in (found.get("status") or {}).get("conditions") or ():
        if one.get("type") == kind and one.get("status") == status:
            condition: Mapping[str, Any] = one
            return condition
    return None


def _container_state(pod: Document) -> Mapping[str, Any]:  # Any: JSON
    for one in (pod.get("status") or {}).get("containerStatuses") or ():
        if one.get("name") == CONTAINER:
            return dict(one.get("state") or {})
    return {}


def _phase(pod: Document) -> str:
    return str((pod.get("status") or {}).get("phase", ""))


def _words(reason: object, message: object) -> str:
    return ": ".join(str(one) for one in (reason, message) if one)[:_NOTE_LENGTH_MAX]


def _seconds(moment: object) -> float:
    """Return a moment of Kubernetes in seconds since 1970; 0 for none."""
    return datetime.fromisoformat(str(moment)).timestamp() if moment else 0.0
