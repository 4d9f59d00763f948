"""A program that holds its bytes in an accelerator runs already."""

import numpy as np

from cachefs.core.hints.estimate import Links, estimate, locate
from cachefs.core.hints.fleet import Fleet
from cachefs.core.hints.nodes import Node
from cachefs.core.hints.spread import Seen, Split, Spread, nowhere


def ready_of(spread):
    fleet = Fleet()
    for name in ("n1", "n2"):
        fleet.put(Node(name=name), now=0.0)
    found = estimate(fleet, locate(spread, fleet), Links(), slot=np.zeros(2), init=4.0)
    return found, found.ready.tolist()


def test_a_program_that_holds_all_bytes_in_its_accelerator_need_not_start_again():
    spread = Spread(total=12e9, nodes={"n1": Seen(Split(gpu=12e9)), "n2": Seen(Split(dram=12e9))})

    found, (there, elsewhere) = ready_of(spread)

    assert there == 0
    assert elsewhere == 12e9 / 20e9 + 12e9 / 12e9 + 4
    assert found.breakdown(0, "n1", ("", "")).init == 0
    assert found.breakdown(1, "n2", ("", "")).init == 4


def test_a_program_that_holds_a_part_starts_again():
    spread = Spread(total=12e9, nodes={"n1": Seen(Split(gpu=11e9, dram=1e9))})

    assert ready_of(spread)[1][0] > 4


def test_a_job_that_reads_nothing_starts_all_the_same():
    assert ready_of(nowhere(0.0))[1] == [4.0, 4.0]
