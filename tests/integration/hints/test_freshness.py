"""What workers report is in the next hint soon: real workers, and a coordinator in this process.

The lease is so long that a renewal which is merely due comes too late for every wait here: what the
inventory learns in time, workers have told on their own.
"""

from dataclasses import dataclass, field

import pytest

from cachefs.config.schema import CoordinatorConfig
from cachefs.coordinator.process import CoordinatorProcess
from cachefs.core.hints.asking import Reading
from cachefs.core.names import DatasetName
from cachefs.hints.duty import HintDuty
from tests.integration.systems import MIB, PacedOrigin, System, wait_for

LEASE_SECONDS = 60.0
SOON = LEASE_SECONDS / 4 - 5.0
BLOCK = 64 * 1024
FILE = 8 * BLOCK
READING = Reading(dataset=DatasetName.parse("model"))

pytestmark = pytest.mark.slow


@dataclass
class _Here:
    """A coordinator that runs in this process, where a system has one of its own."""

    process: CoordinatorProcess
    addresses: dict = field(init=False)
    pid = 0

    def __post_init__(self):
        self.addresses = {
            "http": self.process.http_address,
            "control": self.process.control_address,
        }

    def is_running(self):
        return True


class _System(System):
    """A system whose coordinator is in this process, with an inventory."""

    def __init__(self, folder, origin):
        super().__init__(folder, block_size=BLOCK, lease_seconds=LEASE_SECONDS)
        self.origin = origin
        self.duties = []

        def open_duty(parts):
            self.duties.append(HintDuty(parts))
            return self.duties[-1]

        config = CoordinatorConfig(store_url=f"sqlite:///{self.folder}/store.db")
        process = CoordinatorProcess(config, self.cluster, self.token, duties=[open_duty])
        self.processes["coordinator"] = _Here(process)

    def __exit__(self, *_):
        coordinator = self.processes.pop("coordinator")
        super().__exit__()
        coordinator.process.close()

    @property
    def inventory(self):
        return self.duties[0].inventory

    def found(self):
        found = self.inventory.find(READING)
        return None if found is None else found.spread

    def seen_from(self, node):
        spread = self.found()
        return None if spread is None or node not in spread.nodes else spread.nodes[node]


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    folder = tmp_path_factory.mktemp("freshness")
    files = folder / "files"
    files.mkdir()
    (files / "weights.bin").write_bytes(bytes(range(256)) * (FILE // 256))
    with PacedOrigin(files) as origin, _System(folder, origin) as made:
        made.start_worker("one", node_name="n1", rack="r1", labels=("pool=training",))
        made.start_worker(
            "two", node_name="n2", rack="r2", zone="b", link_bytes_rate=1e9, capacity=64 * MIB
        )
        made.wait_for_members("one", "two")
        made.add("model", origin.url)
        yield made


def test_nodes_are_known_as_their_workers_describe_them(system):
    wait_for(lambda: system.inventory.fleet.node("n2"), SOON)
    fleet = system.inventory.fleet
    assert set(fleet.names) == {"n1", "n2"}
    assert fleet.node("n1").rack == "r1"
    assert fleet.node("n1").labels == {"pool": "training"}
    assert (fleet.node("n2").zone, fleet.node("n2").rates.nic) == ("b", 1e9)
    assert system.inventory.problems == ()


def test_bytes_on_their_way_and_bytes_that_landed_are_in_the_next_hint(system):
    origin = system.origin
    origin.gate.clear()
    system.warm("model")
    wait_for(
        lambda: sum(seen.split.arriving for seen in system.found().nodes.values()) == FILE,
        SOON,
        what=lambda: f"nothing is on its way: {system.found()}",
    )
    arriving = system.found()
    assert all(0 < seen.arriving_seconds < 3600 for seen in arriving.nodes.values())
    assert arriving.elsewhere.split.origin == 0
    assert not any(seen.split.local for seen in arriving.nodes.values())
    origin.gate.set()
    wait_for(
        lambda: sum(seen.split.nvme for seen in system.found().nodes.values()) == FILE,
        SOON,
        what=lambda: f"nothing has landed: {system.found()}",
    )
    landed = system.found()
    assert sum(seen.split.arriving for seen in landed.nodes.values()) == 0
    assert {seen.split.total for seen in landed.nodes.values()} == {FILE}


def test_a_block_that_somebody_read_is_in_the_next_hint(system):
    system.api.post("/v1/evict", {"dataset": "model"})
    wait_for(lambda: not system.found().nodes, 2 * LEASE_SECONDS / 4 + 10)
    with system.open("model", local=False) as dataset, dataset.open("weights.bin") as file:
        file.read_into(0, memoryview(bytearray(BLOCK)))
        wait_for(
            lambda: sum(seen.split.nvme for seen in system.found().nodes.values()) >= BLOCK, SOON
        )


def test_a_worker_that_leaves_takes_its_node_along(system):
    system.processes["two"].stop()
    wait_for(lambda: system.inventory.fleet.node("n2") is None, SOON)
    assert "n2" not in system.found().nodes
