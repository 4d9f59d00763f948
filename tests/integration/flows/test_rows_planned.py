"""Row 1 of the design's table: what a plan says is what a run takes, on a simulated cluster."""

import pytest

from cachefs.testing.simulation.flows import outcome_of
from cachefs.testing.simulation.topology import BLOCK_BYTES

FILES = {"a": 120, "b": 60, "c": 60}
SIZE = sum(FILES.values()) * BLOCK_BYTES
SECONDS = 0.25
"""By which an outcome may differ from its plan, as a part of the plan."""

ONE_AFTER_ANOTHER = """
  steps:
  - {id: half, kind: prefetch, with: {dataset: weights, paths: [a]}}
  - {id: rest, kind: prefetch, needs: [half], with: {dataset: weights}}
  - {id: twice, kind: prefetch, needs: [rest], with: {dataset: weights, copies: 2}}
  - {id: pause, kind: wait, needs: [half], with: {duration: 10s}}
  - {id: ready, kind: wait, needs: [twice], with: {condition: bytes_missing == 0}}
"""
AT_ONCE = """
  steps:
  - id: warm
    kind: prefetch
    foreach: {path: [a, b, c]}
    with: {dataset: weights, paths: ["${each.path}"]}
  - {id: twice, kind: prefetch, needs: [warm], with: {dataset: weights, copies: 2}}
"""
ZONE_BY_ZONE = """
  steps:
  - id: warm
    kind: prefetch
    foreach: {zone: [zone-0, zone-1], max_parallel: 1}
    with: {dataset: weights, zone: "${each.zone}"}
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spec", "workers", "zones", "moved"),
    [(ONE_AFTER_ANOTHER, 3, 1, 2), (AT_ONCE, 2, 1, 2), (ZONE_BY_ZONE, 4, 2, 2)],
    ids=["one after another", "at once", "zone by zone"],
)
def test_row_1_a_plan_says_bytes_exactly_and_seconds_within_a_quarter(spec, workers, zones, moved):
    outcome = outcome_of(spec, files=FILES, workers=workers, zones=zones)
    assert outcome.status.run.state == "Succeeded", outcome.status.run.failure
    planned = outcome.plan
    assert planned["origin_bytes"] == outcome.origin_bytes == SIZE
    assert outcome.status.progress.origin_bytes == SIZE
    assert planned["egress_usd"] == pytest.approx(outcome.status.egress_usd)
    assert planned["origin_bytes"] + planned["peer_bytes"] == moved * SIZE
    assert planned["peer_bytes"] == outcome.peer_bytes
    assert outcome.seconds == pytest.approx(planned["seconds"], rel=SECONDS)
    if (
        zones == 1
    ):  # a zone's owners begin to take what is theirs while another zone is being filled
        for step in planned["steps"]:
            taken = outcome.seconds_of(step["id"])
            assert taken == pytest.approx(step["seconds"], rel=SECONDS, abs=3.0), step["id"]
