"""Flows of 10,000 steps: read, and decided one by one, with as much work for each as in small ones."""

import pytest

from cachefs.dataflow.machine.advance import Machine, first_records
from cachefs.dataflow.machine.decisions import Begin
from cachefs.dataflow.records import Run
from tests.unit.counting import lines_run
from tests.unit.dataflow.machine.engines import DONE, FAILED, flow_of

COUNT = 10_000


def decided(count, ending):
    """Have a flow of so many steps in a row decided to its end; return its state and the ticks it took."""
    flow = flow_of(
        "\n".join(
            f"{{id: s{i}, kind: evict, needs: [{f's{i - 1}' if i else ''}], with: {{dataset: m}}}}"
            for i in range(count)
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
    return machine.run.state, ticks


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["Succeeded", "Failed"])
def test_ten_thousand_steps_in_a_row_are_decided(ending):
    assert decided(COUNT, ending) == (ending, COUNT + 1 if ending == "Succeeded" else 3)


@pytest.mark.parametrize("ending", ["Succeeded", "Failed"])
def test_twice_as_many_steps_are_twice_as_much_work(ending):
    """Whatever looked at all steps at each would do four times as much."""
    few, many = (lines_run(decided, count, ending) for count in (100, 200))
    assert many < 2.3 * few
