"""For each alert, series for which it fires and others for which it does not, in promtool's notation.

``a+bxn`` is a, a+b, a+2b … n times, one a minute. An alert is asked for after ``at`` minutes.
"""

from dataclasses import dataclass, field

JOB = 'job="cachefs-{}"'.format
WORKER = 'job="cachefs-worker", pod="w-0", node="n1", namespace="cachefs", pool="default"'
CSI = 'job="cachefs-csi", node="n1", namespace="cachefs-node"'


@dataclass(frozen=True, slots=True)
class Trial:
    fires: dict[str, str]
    silent: dict[str, str]
    labels: dict[str, str]
    """Of the alert, besides its own."""
    at: int = 60
    silent_too: dict[str, str] = field(default_factory=dict)


def worker(name, more=""):
    return f"cachefs_{name}{{{WORKER}{more}}}"


def csi(name):
    return f"cachefs_csi_{name}{{{CSI}}}"


PLACE = {"pod": "w-0", "node": "n1"}
WHOLE = {"job": "cachefs-worker", "namespace": "cachefs", "pool": "default", **PLACE}
NODE = {"job": "cachefs-csi", "node": "n1", "namespace": "cachefs-node"}
UP = 'up{job="cachefs-coordinator", pod="c-0"}'
TIER = ', tier="disk"'

TRIALS = {
    "CacheFSCoordinatorDown": Trial(
        {UP: "1x9 0x60"},
        {UP: "0x60", 'up{job="cachefs-coordinator", pod="c-1"}': "1x90"},
        {},
    ),
    "CacheFSWorkersMissing": Trial(
        {
            f"up{{{WORKER}}}": "1x90",
            f'up{{{WORKER}, x="2"}}': "1x90",
            "cachefs_coordinator_members": "1x90",
        },
        {
            f"up{{{WORKER}}}": "1x90",
            f'up{{{WORKER}, x="2"}}': "0x90",
            "cachefs_coordinator_members": "1x90",
        },
        {},
    ),
    "CacheFSWorkerSuspected": Trial(
        {"cachefs_coordinator_suspicions_total": "0x30 4x60"},
        {"cachefs_coordinator_suspicions_total": "7x30 8x60"},
        {},
    ),
    "CacheFSFlowFailed": Trial(
        {'cachefs_flow_runs{state="Failed"}': "_x50 1x60", "cachefs_flow_attempts": "0x120"},
        {'cachefs_flow_runs{state="Failed"}': "3x120", "cachefs_flow_attempts": "0x120"},
        {},
        # Prometheus has just begun to look: nobody knows since when they have failed.
        silent_too={
            'cachefs_flow_runs{state="Failed"}': "_x50 3x60",
            "cachefs_flow_attempts": "_x50 0x60",
        },
    ),
    "CacheFSFlowStepsLeftBehind": Trial(
        {"cachefs_flow_left_behind_total": "0x30 1x60"},
        {"cachefs_flow_left_behind_total": "1x99"},
        {},
    ),
    "CacheFSHintsBehind": Trial(
        {"cachefs_hint_inventory_behind_seconds": "0+10x99"},
        {"cachefs_hint_inventory_behind_seconds": "0+1x99"},
        {},
    ),
    "CacheFSWorkerDown": Trial(
        {f"up{{{WORKER}}}": "1x9 0x90"}, {f"up{{{WORKER}}}": "1x56 0x2 1x60"}, WHOLE
    ),
    "CacheFSOriginFails": Trial(
        {
            worker("origin_requests_total", ', client="obstore"'): "0+100x99",
            worker("origin_errors_total", ', client="obstore"'): "0+10x99",
        },
        {
            worker("origin_requests_total", ', client="obstore"'): "0+100x99",
            worker("origin_errors_total", ', client="obstore"'): "0+1x99",
        },
        {"client": "obstore"},
    ),
    "CacheFSFillsFail": Trial(
        {worker("worker_failed_fills_total"): "0+60x99"},
        {worker("worker_failed_fills_total"): "0+1x99"},
        {},
    ),
    "CacheFSFillsWait": Trial(
        {worker("worker_queued_fills"): "2000x99"},
        {worker("worker_queued_fills"): "2000x50 10x60"},
        PLACE,
    ),
    "CacheFSFillsSlow": Trial(
        {
            worker("worker_inflight_fills"): "8x99",
            worker("worker_filled_blocks_total", ', source="origin"'): "0+30x99",
        },
        {
            worker("worker_inflight_fills"): "8x99",
            worker("worker_filled_blocks_total", ', source="origin"'): "0+600x99",
        },
        {},
    ),
    "CacheFSCacheTooSmall": Trial(
        {
            worker("worker_hits_total"): "0+10x120",
            worker("worker_misses_total"): "0+90x120",
            worker("worker_used_bytes", TIER): "95x120",
            worker("worker_capacity_bytes", TIER): "100x120",
        },
        {
            worker("worker_hits_total"): "0+10x120",
            worker("worker_misses_total"): "0+90x120",
            worker("worker_used_bytes", TIER): "40x120",
            worker("worker_capacity_bytes", TIER): "100x120",
        },
        {},
        at=90,
    ),
    "CacheFSDiskFilledByOthers": Trial(
        {
            worker("worker_lacking_bytes", TIER): "20x99",
            worker("worker_capacity_bytes", TIER): "100x99",
        },
        {
            worker("worker_lacking_bytes", TIER): "5x99",
            worker("worker_capacity_bytes", TIER): "100x99",
        },
        {**WHOLE, "tier": "disk"},
    ),
    "CacheFSDiskRefusesWrites": Trial(
        {worker("worker_write_errors_total", TIER): "0x50 3x60"},
        {worker("worker_write_errors_total", TIER): "3x99"},
        {**PLACE, "tier": "disk"},
    ),
    "CacheFSCorruptBlocks": Trial(
        {worker("worker_corrupt_blocks_total", TIER): "0x50 1x60"},
        {worker("worker_corrupt_blocks_total", TIER): "1x99"},
        {**PLACE, "tier": "disk"},
    ),
    "CacheFSFilesRefuted": Trial(
        {worker("worker_refuted_files_total"): "0x50 1x60"},
        {worker("worker_refuted_files_total"): "1x99"},
        {"pod": "w-0"},
    ),
    "CacheFSOperatorAbsent": Trial(
        {'cachefs_operator_leads{pod="o-0"}': "0x99", 'cachefs_operator_leads{pod="o-1"}': "0x99"},
        {'cachefs_operator_leads{pod="o-0"}': "0x99", 'cachefs_operator_leads{pod="o-1"}': "1x99"},
        {},
    ),
    "CacheFSOperatorFails": Trial(
        {
            'cachefs_operator_looks_total{keeper="datasets"}': "0+10x99",
            'cachefs_operator_failed_looks_total{keeper="datasets"}': "0+9x99",
        },
        {
            'cachefs_operator_looks_total{keeper="datasets"}': "0+10x99",
            'cachefs_operator_failed_looks_total{keeper="datasets"}': "0+1x99",
        },
        {"keeper": "datasets"},
    ),
    "CacheFSMountDown": Trial(
        {csi("mounted"): "1x50 0x60"}, {csi("mounted"): "1x58 0x1 1x60"}, NODE
    ),
    "CacheFSMountNotHeld": Trial(
        {csi("mounted"): "1x99", csi("shelf_held"): "0x99"},
        {csi("mounted"): "1x99", csi("shelf_held"): "0x50 1x60"},
        NODE,
    ),
    "CacheFSMountGivenUp": Trial(
        {csi("given_up_total"): "0x50 1x60"}, {csi("given_up_total"): "1x99"}, NODE
    ),
    "CacheFSVolumesFail": Trial(
        {csi("failures_total"): "0+2x99"}, {csi("failures_total"): "0x40 3x60"}, {"node": "n1"}
    ),
    "CacheFSWebhookCertificateEnds": Trial(
        {'cachefs_webhook_certificate_left_seconds{pod="h-0"}': "400000-60x120"},
        {'cachefs_webhook_certificate_left_seconds{pod="h-0"}': "2000000-60x120"},
        {"pod": "h-0"},
        at=90,
    ),
    "CacheFSWebhookFails": Trial(
        {'cachefs_webhook_failures_total{part="hint"}': "0+2x99"},
        {'cachefs_webhook_failures_total{part="hint"}': "0x40 5x60"},
        {"part": "hint"},
    ),
}
