"""Logs cannot be forged, and metrics are declared."""

import io
import json
import logging

import pytest

from cachefs.telemetry import logs, metrics


@pytest.fixture(autouse=True)
def _restore_logging():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


def test_a_json_line_has_the_fields_and_stays_one_line():
    stream = io.StringIO()
    logs.configure("worker", as_json=True, stream=stream)
    logging.getLogger("cachefs.worker").info("file read", extra={"path": "a\nlevel=error forged"})
    (line,) = stream.getvalue().splitlines()
    document = json.loads(line)
    assert document["message"] == "file read"
    assert document["path"] == "a\nlevel=error forged"
    assert document["level"] == "info"


def test_a_text_line_escapes_what_could_forge_another():
    stream = io.StringIO()
    logs.configure("worker", as_json=False, stream=stream)
    logging.getLogger("cachefs.worker").warning("file read", extra={"path": "a\nforged"})
    (line,) = stream.getvalue().splitlines()
    assert line.endswith("file read path=a\\nforged")


def test_declared_samples_are_exposed_with_unit_and_stability():
    exposed = (
        metrics.Metrics(
            lambda: [("cachefs_worker_used_bytes", ("disk",), 7.0)],
            lambda: [
                ("cachefs_worker_used_bytes", ("memory",), 5.0),
                ("cachefs_worker_hits_total", (), 3.0),
            ],
        )
        .exposition()
        .decode()
    )
    assert 'cachefs_worker_used_bytes{tier="disk"} 7.0' in exposed
    assert 'cachefs_worker_used_bytes{tier="memory"} 5.0' in exposed
    assert "cachefs_worker_hits_total 3.0" in exposed
    assert "[bytes, stable]" in exposed


def test_an_undeclared_metric_is_refused():
    with pytest.raises(KeyError):
        metrics.Metrics(lambda: [("cachefs_surprise", (), 1.0)]).exposition()


@pytest.mark.parametrize("declared", metrics.DECLARED.values(), ids=lambda one: one.name)
def test_a_name_says_its_kind_and_unit(declared):
    assert declared.name.startswith("cachefs_")
    assert declared.name.endswith("_total") == (declared.kind == "counter")
    if declared.unit in ("bytes", "seconds"):
        assert declared.unit in declared.name
