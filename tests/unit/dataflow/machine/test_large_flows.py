"""Flows of 10,000 steps: read, and decided one by one, in seconds."""

from time import process_time

import pytest

from cachefs.dataflow.machine.advance import Machine, first_records
from cachefs.dataflow.machine.decisions import Begin
from cachefs.dataflow.records import Run
from tests.unit.dataflow.machine.engines import DONE, FAILED, flow_of

COUNT = 10_000


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["Succeeded", "Failed"])
def test_ten_thousand_steps_in_a_row_are_decided_in_seconds(ending):
    began = process_time()
    flow = flow_of(
        "\n".join(
            f"{{id: s{i}, kind: evict, needs: [{f's{i - 1}' if i else ''}], with: {{dataset: m}}}}"
            for i in range(COUNT)
        )
    )
    machine = Machine(flow, Run(id="r", flow="x/y", state="Running"), first_records(flow))
    ticks = 0
    while not machine.run.over:
        ticks += 1
        for decision in machine.decide(float(ticks)):
            if isinstance(decision, Begin):
                last = ending == "Failed" and ticks > 1
                outcome = FAILED if last else DONE
                machine.ended(decision.record.id, outcome, now=float(ticks), draw=0.5)
    assert machine.run.state == ending
    assert ticks == (COUNT + 1 if ending == "Succeeded" else 3)
    # It takes two to three seconds; whatever looked at all steps at each would take minutes.
    assert process_time() - began < 15
