"""What there is to warn of. Expressions name only metrics that are declared, and labels that these have."""

from dataclasses import dataclass
from typing import Literal

from cachefs.k8s.observing.components import Name


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """Something that somebody should look at."""

    name: str
    about: Name
    expression: str
    """In PromQL: what it returns, is wrong."""
    lasting: str
    """For how long before it fires; ``0m`` at once."""
    severity: Literal["critical", "warning", "info"]
    summary: str
    """For a pager: what is wrong, where."""
    description: str
    """What it means for whoever reads."""
    runbook: str
    """What to look at, and what to do."""


_COORDINATOR: tuple[Alert, ...] = (
    Alert(
        name="CacheFSCoordinatorDown",
        about="coordinator",
        expression='absent(up{job="cachefs-coordinator"} == 1)',
        lasting="2m",
        severity="critical",
        summary="No coordinator of cachefs answers.",
        description="Files that are open, and mounts, read on; nothing new is opened, and no flow or warm-up goes on.",
        runbook="kubectl -n cachefs get pods -l app.kubernetes.io/component=cachefs-coordinator: a pod that is Pending "
        "has no node for its volume; one that restarts says why in its log. Nothing is lost: workers keep their blocks. "
        "If the pod is well, Prometheus may have no token: see that the secret cachefs-metrics is not empty.",
    ),
    Alert(
        name="CacheFSWorkersMissing",
        about="coordinator",
        expression='count(up{job="cachefs-worker"} == 1) > (max(cachefs_coordinator_members) or vector(0))',
        lasting="5m",
        severity="warning",
        summary="{{ $value }} workers of cachefs run, and not all of them are members.",
        description="A worker that is no member serves nobody: its share of the cache is out of use.",
        runbook="`cachefs worker list` shows the members. The log of the worker that lacks says why it cannot register: "
        "another token, another block size (the fingerprint), or no way to port 7071 of the coordinator.",
    ),
    Alert(
        name="CacheFSWorkerSuspected",
        about="coordinator",
        expression="max(increase(cachefs_coordinator_suspicions_total[1h])) > 3",
        lasting="0m",
        severity="warning",
        summary="Workers of cachefs were reported for bad bytes {{ $value | humanize }} times in an hour.",
        description="Readers got blocks that were not what their digest says, and took them elsewhere. No reader saw them.",
        runbook="`cachefs worker list` shows who is suspected, and of what. A disk or memory that fails is likely: drain the "
        "worker (`cachefs worker drain NAME`), and look at the node's kernel log.",
    ),
    Alert(
        name="CacheFSFlowFailed",
        about="coordinator",
        # There is no series before the first run has failed; a metric that is there from the beginning stands in.
        expression='max(cachefs_flow_runs{state="Failed"}) > (max(cachefs_flow_runs{state="Failed"} offset 15m) '
        "or 0 * max(cachefs_flow_attempts offset 15m))",
        lasting="0m",
        severity="warning",
        summary="A run of a flow has failed.",
        description="What it was to publish, copy or roll out is not there, or not all of it.",
        runbook="`cachefs flow list`, `cachefs flow status RUN` and `cachefs flow logs RUN STEP` say which step and why; "
        "on a cluster, kubectl get flowruns -A. `cachefs flow retry RUN` goes on from what had succeeded.",
    ),
    Alert(
        name="CacheFSFlowStepsLeftBehind",
        about="coordinator",
        expression="increase(cachefs_flow_left_behind_total[1h]) > 0",
        lasting="0m",
        severity="warning",
        summary="Steps of flows did not stop when they were told to.",
        description="They hold threads of the coordinator until they end by themselves.",
        runbook="`cachefs flow list --active` shows none of them any more. An origin that neither answers nor fails is "
        "likely; the coordinator's log names the step. A restart of the coordinator frees the threads.",
    ),
    Alert(
        name="CacheFSHintsBehind",
        about="coordinator",
        expression="max(cachefs_hint_inventory_behind_seconds) > 120",
        lasting="5m",
        severity="warning",
        summary="Hints of cachefs are {{ $value | humanizeDuration }} old.",
        description="Schedulers are told where data was, not where it is. No job fails for that; some start slower.",
        runbook="The coordinator's log says why the inventory cannot be read. `cachefs hint DATASET` shows what a hint "
        "is based on, and its problems.",
    ),
)

_WORKER: tuple[Alert, ...] = (
    Alert(
        name="CacheFSWorkerDown",
        about="worker",
        expression='up{job="cachefs-worker"} == 0',
        lasting="5m",
        severity="warning",
        summary="Worker {{ $labels.pod }} of cachefs on {{ $labels.node }} does not answer.",
        description="Its blocks are read from other holders, or from the origin again.",
        runbook="kubectl -n {{ $labels.namespace }} describe pod {{ $labels.pod }}. It comes back with what is on its "
        "disk. If it answers, Prometheus may have no token: see that the secret cachefs-metrics is not empty.",
    ),
    Alert(
        name="CacheFSOriginFails",
        about="worker",
        expression="sum by (client) (rate(cachefs_origin_errors_total[5m])) "
        "/ sum by (client) (rate(cachefs_origin_requests_total[5m])) > 0.05",
        lasting="10m",
        severity="critical",
        summary="{{ $value | humanizePercentage }} of the requests to origins by {{ $labels.client }} fail.",
        description="What is cached is read as ever; what is not fails, or waits for the retries.",
        runbook="A worker's log names the origin and its answer. 403: credentials (the installation's originsSecret); "
        "429 or 503: the origin throttles, limit warm-ups with `rate`; timeouts: the network.",
    ),
    Alert(
        name="CacheFSFillsFail",
        about="worker",
        expression="sum(rate(cachefs_worker_failed_fills_total[5m])) > 0.1",
        lasting="10m",
        severity="warning",
        summary="{{ $value | humanize }} fills a second fail.",
        description="Blocks cannot be brought in, from neither peers nor the origin; reads of them fail.",
        runbook="Look for CacheFSOriginFails first. Without it, the disks refuse (CacheFSDiskRefusesWrites), or workers "
        "do not reach each other's port 7080: a network policy.",
    ),
    Alert(
        name="CacheFSFillsWait",
        about="worker",
        expression="max by (pod, node) (min_over_time(cachefs_worker_queued_fills[10m])) > 1000",
        lasting="5m",
        severity="warning",
        summary="{{ $value | humanize }} blocks wait to be filled on {{ $labels.pod }}.",
        description="Readers wait longer than the origin needs: more is asked for than this worker brings in.",
        runbook="More workers bring more at once: `kubectl scale cachepool`, or a policy with `queuedFills`. If a warm-up "
        "is the cause, give it a rate. See the panel on origins: it may be the origin that is slow.",
    ),
    Alert(
        name="CacheFSFillsSlow",
        about="worker",
        expression="sum(avg_over_time(cachefs_worker_inflight_fills[10m])) "
        "/ sum(rate(cachefs_worker_filled_blocks_total[10m])) > 10",
        lasting="10m",
        severity="warning",
        summary="It takes {{ $value | humanizeDuration }} to fill a block.",
        description="Whoever reads what is not cached waits for so long, block by block.",
        runbook="The panels on the origin say whether it answers slowly, or many ask at once: give warm-ups a rate. If "
        "only peers are slow, see the network between workers, and their disks.",
    ),
    Alert(
        name="CacheFSCacheTooSmall",
        about="worker",
        expression="sum(rate(cachefs_worker_hits_total[30m])) / "
        "(sum(rate(cachefs_worker_hits_total[30m])) + sum(rate(cachefs_worker_misses_total[30m]))) < 0.5 "
        "and sum(cachefs_worker_used_bytes) / sum(cachefs_worker_capacity_bytes) > 0.8",
        lasting="30m",
        severity="info",
        summary="Only {{ $value | humanizePercentage }} of the blocks that are asked for are there, and the tiers are full.",
        description="What is read does not fit: the origin is read again and again.",
        runbook="`cachefs status` shows how much each dataset has. More or larger workers, a `ttl` for what is read once, "
        "or a pool of its own for whoever drives the others out.",
    ),
    Alert(
        name="CacheFSDiskFilledByOthers",
        about="worker",
        expression="cachefs_worker_lacking_bytes / (cachefs_worker_capacity_bytes > 0) > 0.1",
        lasting="15m",
        severity="warning",
        summary="Others fill the disk of {{ $labels.pod }}: it lacks {{ $value | humanizePercentage }} of its tier.",
        description="The tier is smaller than configured, so that the disk does not fill up.",
        runbook="On {{ $labels.node }}, see what else is in the volume. A tier on the node's own disk (hostPath) needs "
        "one of its own, or a smaller size.",
    ),
    Alert(
        name="CacheFSDiskRefusesWrites",
        about="worker",
        expression="sum by (pod, node, tier) (increase(cachefs_worker_write_errors_total[15m])) > 0",
        lasting="0m",
        severity="warning",
        summary="The {{ $labels.tier }} tier of {{ $labels.pod }} on {{ $labels.node }} refuses writes.",
        description="Blocks are served without being kept. Nothing is wrong with the bytes.",
        runbook="The worker's log has the error. ENOSPC: see CacheFSDiskFilledByOthers. EIO, EROFS: the disk fails; drain "
        "the worker, and replace the disk.",
    ),
    Alert(
        name="CacheFSCorruptBlocks",
        about="worker",
        expression="sum by (pod, node, tier) (increase(cachefs_worker_corrupt_blocks_total[1h])) > 0",
        lasting="0m",
        severity="warning",
        summary="{{ $labels.pod }} on {{ $labels.node }} found damaged blocks in its {{ $labels.tier }} tier.",
        description="They were dropped before anybody read them, and are filled again.",
        runbook="Once after a power failure is to be expected. More than that is a disk or memory that fails: drain the "
        "worker, and look at the node's kernel log and the disk's own counters.",
    ),
    Alert(
        name="CacheFSFilesRefuted",
        about="worker",
        expression="sum by (pod) (increase(cachefs_worker_refuted_files_total[1h])) > 0",
        lasting="0m",
        severity="critical",
        summary="A file is not what its known digest says (seen by {{ $labels.pod }}).",
        description="The origin has other bytes than were vouched for: damaged, or changed by somebody. Reads of the file fail.",
        runbook="The worker's log names the file. Compare it with where it is from; `cachefs dataset "
        "update NAME` takes up a file that was mended. If nobody has changed it, treat it as an incident.",
    ),
)

_OPERATOR: tuple[Alert, ...] = (
    Alert(
        name="CacheFSOperatorAbsent",
        about="operator",
        expression="(max(cachefs_operator_leads) or vector(0)) < 1",
        lasting="5m",
        severity="warning",
        summary="No operator of cachefs leads.",
        description="What runs goes on. New datasets, pools and flows, and changes of them, are not taken up.",
        runbook="kubectl -n cachefs get pods,leases: a pod that restarts says why in its log; a Lease that somebody else "
        "holds ends by itself within a minute.",
    ),
    Alert(
        name="CacheFSOperatorFails",
        about="operator",
        expression="sum by (keeper) (rate(cachefs_operator_failed_looks_total[10m])) "
        "/ sum by (keeper) (rate(cachefs_operator_looks_total[10m])) > 0.5",
        lasting="15m",
        severity="warning",
        summary="The operator fails in {{ $value | humanizePercentage }} of its looks at {{ $labels.keeper }}.",
        description="What is declared is not carried out, or only late.",
        runbook="kubectl describe the object: its conditions and events say what is wrong. If all of a kind fail, the "
        "operator's log does: a right that is missing, or a coordinator that does not answer.",
    ),
)

_CSI: tuple[Alert, ...] = (
    Alert(
        name="CacheFSMountDown",
        about="csi",
        expression="cachefs_csi_mounted == 0",
        lasting="2m",
        severity="critical",
        summary="The mount of cachefs on {{ $labels.node }} does not answer.",
        description="Pods on this node cannot read their datasets: they wait, then get EIO. New pods stay in "
        "ContainerCreating.",
        runbook="kubectl -n {{ $labels.namespace }} get pods -o wide --field-selector spec.nodeName={{ $labels.node }}: "
        "the pod of cachefs-mounts comes back by itself, and what is held by the driver lives on. If it restarts again "
        "and again, its log says why; no /dev/fuse and no memory are the usual causes.",
    ),
    Alert(
        name="CacheFSMountNotHeld",
        about="csi",
        expression="cachefs_csi_shelf_held == 0 and cachefs_csi_mounted == 1",
        lasting="15m",
        severity="warning",
        summary="Nobody holds a copy of the mount on {{ $labels.node }}.",
        description="Reads work. A restart of the mount's pod would end the mount of pods that run.",
        runbook="Delete the pod of cachefs-csi on this node: it asks for a copy when it begins. If it gets none, its log "
        "says why; the kernel must be Linux 6.9 or newer.",
    ),
    Alert(
        name="CacheFSMountGivenUp",
        about="csi",
        expression="increase(cachefs_csi_given_up_total[1h]) > 0",
        lasting="0m",
        severity="critical",
        summary="A mount on {{ $labels.node }} was given up: nobody served it in time.",
        description="Pods that had it open get errors until it is bound anew; those with `cachefs.io/inject: csi` see the "
        "new one by themselves, others must be restarted.",
        runbook="See why the pod of cachefs-mounts was away for so long (kubectl describe: evicted, out of memory, image "
        "not to be had). Restart pods of the node whose reads fail.",
    ),
    Alert(
        name="CacheFSVolumesFail",
        about="csi",
        expression="sum by (node) (increase(cachefs_csi_failures_total[15m])) > 5",
        lasting="5m",
        severity="warning",
        summary="Volumes cannot be published on {{ $labels.node }}.",
        description="Pods stay in ContainerCreating.",
        runbook="kubectl describe the pod: the event of the kubelet has the driver's answer. A dataset that nobody "
        "declared or shared is told there, too.",
    ),
)

_WEBHOOK: tuple[Alert, ...] = (
    Alert(
        name="CacheFSWebhookCertificateEnds",
        about="webhook",
        expression="cachefs_webhook_certificate_left_seconds < 5 * 86400",
        lasting="1h",
        severity="warning",
        summary="The certificate of {{ $labels.pod }} is good for {{ $value | humanizeDuration }} more.",
        description="The operator renews it long before that. Once it has ended, pods get no sidecars and no affinity; "
        "they are created all the same.",
        runbook="The operator's log says why it cannot renew: it needs the secrets cachefs-webhook and cachefs-webhook-ca, "
        "which the installation makes empty; apply it again if they are gone.",
    ),
    Alert(
        name="CacheFSWebhookFails",
        about="webhook",
        expression="sum by (part) (increase(cachefs_webhook_failures_total[15m])) > 10",
        lasting="5m",
        severity="warning",
        summary="{{ $value | humanize }} pods or schedulers went on without cachefs ({{ $labels.part }}).",
        description="Pods were created as they are: without what they asked for by label.",
        runbook="The webhook's log names each. `hint`: the coordinator does not answer, or not in time; `inject`: what the "
        "pod asks for makes no sense, and kubectl showed a warning when it was made.",
    ),
)

ALERTS: tuple[Alert, ...] = (*_COORDINATOR, *_WORKER, *_OPERATOR, *_CSI, *_WEBHOOK)
