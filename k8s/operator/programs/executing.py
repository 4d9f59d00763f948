"""Executing: what the coordinator hands out, carried out on the cluster.

Again and again: ask what is wanted, look what is there, do what is missing, tell what was seen. What the
coordinator wants is asked for *before* the cluster is looked at, so a Job that it knows of and that is not
there was removed by somebody.

A Job is made in three steps, each of which may be the last one of this process: the program is claimed, and
with that the coordinator knows that it may be running; the Job is made under the program's own name; and
told. Who comes after goes on with the step that is missing.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import partial

from cachefs.errors import (
    CacheFSError,
    ConfigError,
    ConflictError,
    DeniedError,
    NotKnownError,
)
from cachefs.k8s.cluster import Cluster
from cachefs.k8s.kinds import JOBS, PODS, REPLICA_SETS
from cachefs.k8s.names import MANAGED_BY, OPERATOR, PROGRAM, Kind
from cachefs.k8s.operator.actions import Document
from cachefs.k8s.operator.programs import jobs, rollouts
from cachefs.k8s.operator.programs.jobs import Program, Verdict
from cachefs.ports import Closing, Runtime
from cachefs.transport.api import Api
from cachefs.transport.rounds import Rounds

LOOK_SECONDS = 1.0
SWEEP_SECONDS = 60.0
"""How often Jobs are looked for that nobody wants any more."""
AFFINITY_SECONDS = 3.0
"""A hint that takes longer is not waited for: a program without one runs, too."""
LOG_LINES = 200
LOG_BYTES = 20 * 1024
"""What is not UTF-8 becomes three times as long, and the coordinator takes 64 KiB."""
_CLOSE_SECONDS = 20.0
_LOG = logging.getLogger("cachefs.k8s")

Places = Mapping[str, list[Document]]


class Executor(Closing):
    """Carries out what is handed out. Its owner calls ``start`` once, and ``close`` at the end."""

    def __init__(self, runtime: Runtime, cluster: Cluster, api: Api, *, namespace: str) -> None:
        """Look at nothing yet.

        Args:
            runtime: Time, and the thread.
            cluster: Where Jobs are made.
            api: The coordinator's.
            namespace: The operator's own: Jobs of another installation are left alone.
        """
        self._runtime = runtime
        self._cluster = cluster
        self._api = api
        self._namespace = namespace
        self._ours = {MANAGED_BY: "cachefs", OPERATOR: namespace}
        self._told: dict[str, Document] = {}
        self._swept_at = float("-inf")
        self._suspects: frozenset[str] = frozenset()
        self._rounds = Rounds(runtime, "executor", self.look, every_seconds=LOOK_SECONDS)

    def start(self) -> None:
        """Begin."""
        self._rounds.start()

    def close(self) -> None:
        """Do no more; what was begun goes on, and whoever comes next finds it."""
        self._rounds.close(wait_seconds=_CLOSE_SECONDS)

    def look(self) -> None:
        """Look once at everything that is handed out.

        Raises:
            CacheFSError: The coordinator or the API server cannot be asked now.
        """
        try:
            handed = self._api.get("/v1/handed")
        except NotKnownError:
            return  # this coordinator hands nothing out
        programs = [Program.of(one) for one in handed["programs"]]
        now = self._runtime.monotonic()
        if programs or self._suspects or now - self._swept_at >= SWEEP_SECONDS:
            self._swept_at = now
            self._programs(programs)
        for target in handed["targets"]:
            self._guarded(target["name"], partial(self._target, target))

    # ---- programs -------------------------------------------------------------------------------

    def _programs(self, programs: list[Program]) -> None:
        found_jobs = self._by_program(JOBS)
        found_pods = self._by_program(PODS)
        for program in programs:
            job = next(iter(found_jobs.get(program.id, ())), None)
            pods = found_pods.get(program.id, [])
            self._guarded(program.id, partial(self._program, program, job, pods))
        wanted = {program.id for program in programs}
        self._orphans(
            [job for name, found in found_jobs.items() if name not in wanted for job in found]
        )
        self._told = {name: told for name, told in self._told.items() if name in wanted}

    def _by_program(self, kind: Kind) -> Places:
        found: dict[str, list[Document]] = defaultdict(list)
        for one in self._cluster.find(kind, labels=self._ours):
            name = (one["metadata"].get("labels") or {}).get(PROGRAM)
            if name:
                found[name].append(one)
        return found

    def _program(self, program: Program, job: Document | None, pods: list[Document]) -> None:
        verdict = jobs.judge(program, job, pods)
        if verdict.begin:
            self._begin(program)
            return
        if verdict.remove is not None:
            head = verdict.remove["metadata"]
            self._cluster.delete(JOBS, head["name"], head["namespace"], uid=head["uid"])
        if verdict.state is not None:
            self._tell(program, verdict)

    def _begin(self, program: Program) -> None:
        # Also what was claimed before: it may have been stopped, or begun, since we asked.
        claim = {"state": "claimed"}
        answer = self._api.post(f"/v1/handed/programs/{program.id}", claim)
        if answer["stop"] or answer["state"] != "claimed":
            return
        try:
            affinity, hint = self._affinity(program)
            made = jobs.job_of(program, owner=self._namespace, affinity=affinity, hint=hint)
            self._cluster.create(made)
        except ConflictError:
            found = self._cluster.get(JOBS, program.job, program.namespace)
            if found is None:
                return
            verdict = jobs.taken(program, found)
        except (ConfigError, DeniedError, NotKnownError) as error:
            verdict = Verdict(state="ended", report={"code": None, "failure": str(error)[:2000]})
        else:
            verdict = Verdict(state="starting", report={"note": f"Job {program.job}"})
        self._tell(program, verdict)

    def _affinity(self, program: Program) -> tuple[Document, str]:
        """Return where a program's datasets are, as node affinity; nothing if nobody can tell."""
        if not program.datasets:
            return {}, ""
        gpus = int(program.wanted["resources"]["gpu"])
        question = {
            "job_id": f"{program.namespace}/{program.job}",
            "tenant": program.namespace,
            "datasets": program.datasets,
            "renderings": ["node_affinity"],
            **({"gpu": {"count": gpus}} if gpus else {}),
        }
        try:
            answer = self._api.post("/v1/hints", question, timeout_seconds=AFFINITY_SECONDS)
            affinity: Document = answer["renderings"]["node_affinity"]
        except (CacheFSError, KeyError) as error:
            _LOG.warning("no hint", extra={"program": program.id, "failure": str(error)})
            return {}, ""
        return (affinity, str(answer["hint_id"])) if affinity else ({}, "")

    def _tell(self, program: Program, verdict: Verdict) -> None:
        report = {"state": verdict.state, **verdict.report}
        if self._told.get(program.id) == report:
            return
        sent = dict(report)
        if verdict.read_log:
            text = self._log(program, verdict.read_log)
            sent["log"] = text or report.get("log", "")
        self._api.post(f"/v1/handed/programs/{program.id}", sent)
        self._told[program.id] = report

    def _log(self, program: Program, pod: str) -> str:
        try:
            return self._cluster.log(
                pod,
                program.namespace,
                container=jobs.CONTAINER,
                lines=LOG_LINES,
                bytes_max=LOG_BYTES,
            )
        except CacheFSError as error:
            # What ended with a failure has left its last lines in the pod's status.
            _LOG.info("no log", extra={"program": program.id, "failure": str(error)})
            return ""

    def _orphans(self, found: list[Document]) -> None:
        """End the Jobs of programs that nobody wants any more; those that are over stay for their logs.

        A Job must have been seen so twice: what was asked before the first look may have been old, if this
        process was stopped between the two.
        """
        orphans = {job["metadata"]["uid"]: job["metadata"] for job in found if not _over(job)}
        for uid in self._suspects & orphans.keys():
            head = orphans.pop(uid)
            _LOG.info("a Job that nobody wants is removed", extra={"job": head["name"]})
            self._cluster.delete(JOBS, head["name"], head["namespace"], uid=uid)
        self._suspects = frozenset(orphans)

    # ---- targets --------------------------------------------------------------------------------

    def _target(self, handed: Document) -> None:
        name = handed["name"]
        namespace, kind_name, short = name.split("/")
        kind = rollouts.KINDS[kind_name]
        target = self._cluster.get(kind, short, namespace)
        refused = rollouts.refusal(target, name)
        answer: Document = {"asked": handed["asked"]}
        if refused or target is None:
            self._api.post(f"/v1/handed/targets/{name}", {**answer, "failure": refused})
            return
        pods = self._pods(target, namespace)
        if handed["shape"]:
            patch = rollouts.change(target, rollouts.Shape.of(handed["shape"]), pods)
            if patch is not None:
                try:
                    target = self._cluster.patch(
                        patch.kind, patch.name, patch.namespace, patch.patch
                    )
                except ConflictError:
                    return  # somebody changed it at the same time: the next look sees what
                except (ConfigError, DeniedError) as error:
                    self._api.post(
                        f"/v1/handed/targets/{name}", {**answer, "failure": str(error)[:2000]}
                    )
                    return
                pods = self._pods(target, namespace)
        self._api.post(f"/v1/handed/targets/{name}", {**answer, **rollouts.report(target, pods)})

    def _pods(self, target: Document, namespace: str) -> list[Document]:
        labels = rollouts.selector_of(target)
        owners = self._cluster.find(REPLICA_SETS, namespace, labels=labels)
        return rollouts.pods_of(target, self._cluster.find(PODS, namespace, labels=labels), owners)

    def _guarded(self, what: str, work: Callable[[], None]) -> None:
        """Do one thing; its failure is not that of the others."""
        try:
            work()
        except CacheFSError as error:
            _LOG.warning("it is tried again", extra={"what": what, "failure": str(error)})


def _over(job: Document) -> bool:
    """Say whether a Job needs no end: it has one, or is about to."""
    return bool(job["metadata"].get("deletionTimestamp")) or any(
        one.get("type") in ("Complete", "Failed") and one.get("status") == "True"
        for one in (job.get("status") or {}).get("conditions") or ()
    )
