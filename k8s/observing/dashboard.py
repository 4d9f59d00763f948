"""The dashboard: how a cache does, from what readers get down to what nodes and schedulers are given.

Everything is shown for the pools that are chosen, where it is of pools at all. The document is Grafana's own model,
as far as it must be said.
"""

import json
from collections.abc import Iterable, Iterator

from cachefs.k8s.installation import Installation
from cachefs.k8s.manifests.parts import Document, headed
from cachefs.k8s.observing.components import Component
from cachefs.k8s.observing.panels import ROWS, Panel, Row

TITLE = "cachefs"
_SOURCE: Document = {"type": "prometheus", "uid": "${source}"}
_SCHEMA_VERSION = 39
"""Of the model: Grafana 10 and later read it, and bring it up to what they have."""
_COLUMNS = 24
_HEIGHT = 8


def document(wanted: Installation, parts: Iterable[Component]) -> Document:
    """Return the config map that Grafana's sidecar takes the dashboard from."""
    head = headed("v1", "ConfigMap", "cachefs-dashboard", "observing", wanted.namespace)
    head["metadata"]["labels"]["grafana_dashboard"] = "1"
    text = json.dumps(dashboard(parts), indent=1, ensure_ascii=False) + "\n"
    return {**head, "data": {"cachefs.json": text}}


def dashboard(parts: Iterable[Component]) -> Document:
    """Return the dashboard in Grafana's model."""
    present = {part.name for part in parts}
    return {
        "uid": "cachefs",
        "title": TITLE,
        "tags": ["cachefs", "storage"],
        "schemaVersion": _SCHEMA_VERSION,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": _variables()},
        "panels": list(_panels(row for row in ROWS if row.about in present)),
    }


def _variables() -> list[Document]:
    return [
        {"name": "source", "type": "datasource", "query": "prometheus", "label": "Prometheus"},
        {
            "name": "pool",
            "type": "query",
            "label": "Pool",
            "datasource": _SOURCE,
            "query": {
                "query": "label_values(cachefs_worker_capacity_bytes, pool)",
                "refId": "pool",
            },
            "refresh": 2,
            "includeAll": True,
            "multi": True,
            "allValue": ".*",
            "current": {"text": "All", "value": "$__all"},
        },
    ]


def _panels(rows: Iterable[Row]) -> Iterator[Document]:
    """Yield rows and panels, each at its place: from left to right, then down."""
    number, top = 0, 0
    for row in rows:
        number += 1
        place = {"x": 0, "y": top, "w": _COLUMNS, "h": 1}
        head = {"id": number, "type": "row", "title": row.title, "gridPos": place}
        yield {**head, "collapsed": False, "panels": []}
        left, top = 0, top + 1
        for panel in row.panels:
            if left + panel.width > _COLUMNS:
                left, top = 0, top + _HEIGHT
            number += 1
            place = {"x": left, "y": top, "w": panel.width, "h": _HEIGHT}
            yield {"id": number, "gridPos": place, **_panel(panel)}
            left += panel.width
        top += _HEIGHT


def _panel(panel: Panel) -> Document:
    defaults: Document = {"unit": panel.unit, "min": 0}
    if panel.form == "timeseries":
        stacking = {"mode": "normal" if panel.stacked else "none"}
        defaults["custom"] = {"fillOpacity": 20 if panel.stacked else 0, "stacking": stacking}
    return {
        "type": panel.form,
        "title": panel.title,
        "description": panel.what,
        "datasource": _SOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "targets": [
            {
                "refId": chr(ord("A") + at),
                "datasource": _SOURCE,
                "expr": series.expression,
                "legendFormat": series.legend,
            }
            for at, series in enumerate(panel.series)
        ],
    }
