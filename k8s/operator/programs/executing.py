"""Executing: what the coordinator hands out, carried out on the cluster.

Again and again: ask what is wanted, look what is there, do what is missing, tell what was seen. What the
coordinator wants is asked for *before* the cluster is looked at, so a Job that it knows of and that is not
there was removed by somebody. Nothing is begun that no object of the namespace wants: see :mod:`.belonging`.

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
from cachefs.k8s.operator.programs.belonging import Belonging
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
_FAILURE_LENGTH_MAX = 2000
_CLOSE_SECONDS = 20.0
_LOG = logging.getLogger("cachefs.k8s")

Places = Mapping[tuple[str, str], list[Document]]
"""By namespace and program: what has a program's label elsewhere is not the program's."""


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
        self._belonging = Belonging(cluster, api)
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
        runs = {program.run for program in programs}
        self._belonging.keep(runs | {_run_of(target) for target in handed["targets"]})
        for target in handed["targets"]:
            self._guarded(
                target["name"], partial(self._target, target), partial(self._answer, target)
            )

    # ---- programs -------------------------------------------------------------------------------

    def _programs(self, programs: list[Program]) -> None:
        found_jobs = self._by_program(JOBS)
        found_pods = self._by_program(PODS)
        for program in programs:
            place = program.namespace, program.id
            named = (
                one for one in found_jobs.get(place, ()) if one["metadata"]["name"] == program.job
            )
            job = next(named, None)
            pods = jobs.pods_of(job, found_pods.get(place, []))
            self._guarded(
                program.id,
                partial(self._program, program, job, pods),
                partial(self._fail, program),
            )
        wanted = {(program.namespace, program.id) for program in programs}
        self._orphans(
            [job for place, found in found_jobs.items() if place not in wanted for job in found]
        )
        names = {program.id for program in programs}
        self._told = {name: told for name, told in self._told.items() if name in names}

    def _by_program(self, kind: Kind) -> Places:
        found: dict[tuple[str, str], list[Document]] = defaultdict(list)
        for one in self._cluster.find(kind, labels=self._ours):
            head = one["metadata"]
            name = (head.get("labels") or {}).get(PROGRAM)
            if name:
                found[head["namespace"], name].append(one)
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
        refused = self._belonging.refusal(program.run, program.namespace)
        if refused is None:
            return
        if refused:
            self._fail(program, refused)
            return
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
            self._fail(program, str(error))
            return
        else:
            verdict = Verdict(state="starting", report={"note": f"Job {program.job}"})
        self._tell(program, verdict)

    def _fail(self, program: Program, failure: str) -> None:
        report = {"code": None, "failure": failure[:_FAILURE_LENGTH_MAX]}
        self._tell(program, Verdict(state="ended", report=report))

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
            place = head["name"], head["namespace"]
            self._guarded(place[0], partial(self._cluster.delete, JOBS, *place, uid=uid))
        self._suspects = frozenset(orphans)

    # ---- targets --------------------------------------------------------------------------------

    def _target(self, handed: Document) -> None:
        name, run = handed["name"], _run_of(handed)
        namespace, kind_name, short = name.split("/", 2)
        kind = rollouts.KINDS[kind_name]
        # Of a coordinator that does not yet say who asks, nothing is done until it does.
        refused = self._belonging.refusal(run, namespace) if run else None
        if refused is None:
            return
        target = None if refused else self._cluster.get(kind, short, namespace)
        refused = refused or rollouts.refusal(target, name)
        if refused or target is None:
            self._answer(handed, refused)
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
                    self._answer(handed, str(error))
                    return
                pods = self._pods(target, namespace)
        self._answer(handed, "", rollouts.report(target, pods))

    def _answer(self, handed: Document, failure: str, report: Document | None = None) -> None:
        said = {"failure": failure[:_FAILURE_LENGTH_MAX]} if failure else report or {}
        path = f"/v1/handed/targets/{handed['name']}"
        self._api.post(path, {"asked": handed["asked"], **said})

    def _pods(self, target: Document, namespace: str) -> list[Document]:
        labels = rollouts.selector_of(target)
        owners = self._cluster.find(REPLICA_SETS, namespace, labels=labels)
        return rollouts.pods_of(target, self._cluster.find(PODS, namespace, labels=labels), owners)

    def _guarded(
        self, what: str, work: Callable[[], None], fail: Callable[[str], None] | None = None
    ) -> None:
        """Do one thing; its failure is not that of the others. What meets a bug of ours has failed."""
        try:
            try:
                work()
            except CacheFSError:
                raise
            except Exception as error:  # noqa: BLE001 - it is logged with its trace, and told
                _LOG.exception("it met a bug", extra={"what": what})
                if fail is not None:
                    fail(f"the operator cannot do it: {type(error).__name__}: {error}")
        except CacheFSError as error:
            _LOG.warning("it is tried again", extra={"what": what, "failure": str(error)})


def _run_of(target: Document) -> str:
    """Return the run whose step asks about a target; empty if it is not said."""
    return str(target.get("by", "")).partition("/")[0]


def _over(job: Document) -> bool:
    """Say whether a Job needs no end: it has one, or is about to."""
    return bool(job["metadata"].get("deletionTimestamp")) or any(
        one.get("type") in ("Complete", "Failed") and one.get("status") == "True"
        for one in (job.get("status") or {}).get("conditions") or ()
    )
