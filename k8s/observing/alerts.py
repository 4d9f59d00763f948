"""Alerts: what somebody should look at, each with what it means and what to do.

An alert is about something that people notice or will: reads that fail or are slow, bytes that are wrong, a mount
that is gone. *Critical* is what cannot wait until morning. Each is tried by promtool on series for which it must fire,
and on others for which it must not.

Which alerts there are, :mod:`.warnings` says; here is what Prometheus is given.
"""

from collections.abc import Iterable

from cachefs.k8s.installation import Installation
from cachefs.k8s.manifests.parts import Document, headed
from cachefs.k8s.observing.components import Component
from cachefs.k8s.observing.warnings import ALERTS, Alert


def document(wanted: Installation, parts: Iterable[Component]) -> Document:
    """Return the rules for the parts that there are."""
    head = headed(
        "monitoring.coreos.com/v1", "PrometheusRule", "cachefs", "observing", wanted.namespace
    )
    return {**head, "spec": rules(parts)}


def rules(parts: Iterable[Component]) -> Document:
    """Return the same as a file of Prometheus' own."""
    groups = []
    for part in parts:
        own = [_rule(alert) for alert in ALERTS if alert.about == part.name]
        groups.append({"name": part.job, "rules": own})
    return {"groups": groups}


def _rule(alert: Alert) -> Document:
    return {
        "alert": alert.name,
        "expr": alert.expression,
        "for": alert.lasting,
        "labels": {"severity": alert.severity, "component": alert.about},
        "annotations": {
            "summary": alert.summary,
            "description": alert.description,
            "runbook": alert.runbook,
        },
    }
