"""Observing: what Prometheus asks, what it warns of, and a dashboard, as objects of an installation.

They want the kinds of the Prometheus operator (``monitoring.coreos.com/v1``) and a Grafana whose sidecar looks for
config maps with the label ``grafana_dashboard``, as the usual collections have both. Alerts and panels are written in
Python, with the metrics that :mod:`cachefs.telemetry.metrics` declares; a test holds each name and label to that.

Coordinator and workers show their metrics to whoever has a token. Prometheus gets one that opens nothing else
(:func:`cachefs.config.reading.metrics_token`), from a secret that the operator fills.
"""

from cachefs.k8s.installation import Installation
from cachefs.k8s.manifests.parts import Document
from cachefs.k8s.observing.alerts import document as warning_of
from cachefs.k8s.observing.components import present
from cachefs.k8s.observing.dashboard import document as showing
from cachefs.k8s.observing.monitors import documents as asking


def documents(wanted: Installation) -> list[Document]:
    """Return the objects that observe an installation; nothing of parts that it has not."""
    parts = present(wanted)
    return [*asking(wanted, parts), warning_of(wanted, parts), showing(wanted, parts)]
