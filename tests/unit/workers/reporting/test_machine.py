"""The machine, from folders that look as the kernel's do."""

import pytest

from cachefs.config.schema import TierConfig, WorkerConfig
from cachefs.core.hints.nodes import Gpu
from cachefs.errors import ConfigError
from cachefs.transport.runtime import ThreadRuntime
from cachefs.workers.reporting import machine
from cachefs.workers.reporting.machine import Card
from cachefs.workers.reporting.survey import Survey, parse_labels


def add_card(folder, name, *, speed="", state="up", numa=None):
    card = folder / name
    (card / "device").mkdir(parents=True)
    (card / "operstate").write_text(f"{state}\n")
    (card / "speed").write_text(f"{speed}\n")
    if numa is not None:
        (card / "device" / "numa_node").write_text(f"{numa}\n")


def test_the_fastest_card_that_is_up_counts(tmp_path):
    add_card(tmp_path, "eth0", speed=25000, numa=1)
    add_card(tmp_path, "eth1", speed=100000, state="down")
    add_card(tmp_path, "eth2", speed=10000)
    (tmp_path / "br0").mkdir()
    assert machine.find_card("10.0.0.1", tmp_path) == Card("eth0", 25e9 / 8)


def test_the_card_with_the_workers_address_counts_before_a_faster_one(tmp_path, monkeypatch):
    class Address:
        address = "10.0.0.1"

    monkeypatch.setattr(machine.psutil, "net_if_addrs", lambda: {"eth1": [Address]})
    add_card(tmp_path, "eth0", speed=100000)
    add_card(tmp_path, "eth1", speed=10000, numa=-1)
    assert machine.find_card("10.0.0.1", tmp_path) == Card("eth1", 10e9 / 8)


@pytest.mark.parametrize("speed", ["-1", "", "fast"])
def test_a_card_that_does_not_say_how_fast_it_is_is_not_known(tmp_path, speed):
    add_card(tmp_path, "eth0", speed=speed)
    assert machine.find_card("", tmp_path).bytes_rate == 0


def test_without_cards_there_is_none(tmp_path):
    assert machine.find_card("", tmp_path) is None
    assert machine.find_card("", tmp_path / "missing") is None


def test_numa_nodes_are_counted(tmp_path):
    for name in ("node0", "node1", "possible", "nodes"):
        (tmp_path / name).mkdir()
    assert machine.numa_nodes(tmp_path) == 2
    assert machine.numa_nodes(tmp_path / "missing") == 1


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("rw,mpol=bind:1", 1),
        ("rw,mpol=prefer:0", 0),
        ("rw,mpol=bind=static:1", 1),
        ("rw,mpol=interleave:0-1", None),
        ("rw,size=1g", None),
    ],
)
def test_a_memory_tier_is_where_its_tmpfs_is_bound_to(tmp_path, options, expected):
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        f"20 1 0:19 / / rw - ext4 /dev/sda rw\n"
        f"21 20 0:20 / {tmp_path} rw,nosuid shared:2 - tmpfs tmpfs {options}\n"
        f"22 20 0:21 / {tmp_path}/elsewhere rw - tmpfs tmpfs rw,mpol=bind:7\n"
    )
    assert machine.memory_numa(tmp_path / "tier", mounts) == expected


def test_a_folder_that_is_no_tmpfs_is_bound_to_nothing(tmp_path):
    mounts = tmp_path / "mountinfo"
    mounts.write_text("20 1 0:19 / / rw - ext4 /dev/sda rw,mpol=bind:0\n")
    assert machine.memory_numa(tmp_path, mounts) is None
    assert machine.memory_numa(tmp_path, tmp_path / "missing") is None


def test_labels_are_keys_and_values():
    assert parse_labels(("pool=training", " a = b=c ")) == {"pool": "training", "a": "b=c"}
    with pytest.raises(ConfigError, match="not a label: 'pool'"):
        parse_labels(("pool",))


class Driver:
    """Accelerators that the test changes."""

    def __init__(self, *gpus):
        self.gpus = gpus
        self.looks = 0
        self.closed = False

    def look(self):
        self.looks += 1
        if not self.gpus:
            raise RuntimeError("the driver is in trouble")
        return self.gpus

    def close(self):
        self.closed = True


def surveyed(tmp_path, driver, **options):
    config = WorkerConfig(
        name="w",
        state_folder=tmp_path,
        tiers=(TierConfig(folder=tmp_path, medium="disk", capacity_bytes=1),),
        coordinator="",
        **options,
    )
    return Survey(ThreadRuntime(), config, open_library=lambda: driver)


def wait_until(condition):
    runtime = ThreadRuntime()
    until = runtime.monotonic() + 10
    while not condition():
        assert runtime.monotonic() < until
        runtime.sleep(0.005)


def test_what_is_configured_wins_over_what_is_found(tmp_path):
    with surveyed(tmp_path, None, node_name="n1", rack="r1", link_bytes_rate=5.0) as survey:
        report = survey.report
    assert (report.name, report.rack, report.nic_bytes_rate) == ("n1", "r1", 5.0)
    assert report.cpus > 0
    assert report.memory_bytes >= report.memory_free_bytes > 0


def test_a_machine_is_called_by_its_host_name_if_nothing_else_is_said(tmp_path):
    assert surveyed(tmp_path, None).report.name


def test_accelerators_are_in_the_next_report(tmp_path):
    driver = Driver(Gpu(index=0, model="H100"))
    with surveyed(tmp_path, driver) as survey:
        assert survey.report.gpus == ()
        survey.start()
        wait_until(lambda: survey.report.gpus == driver.gpus)
    assert driver.closed


def test_a_driver_in_trouble_leaves_the_last_report_and_is_let_go(tmp_path):
    driver = Driver()
    with surveyed(tmp_path, driver, rack="r1") as survey:
        survey.start()
        wait_until(lambda: driver.closed)
        assert survey.report.rack == "r1"
