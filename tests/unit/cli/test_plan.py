"""The plan of ``cachefs up``, and what its processes are told."""

import socket

import pytest

from cachefs.cli.system.plan import Blueprint, make_plan, save_plan
from cachefs.cli.system.statefolder import StateFolder
from cachefs.config.files import read_process_config
from cachefs.config.load import defaults
from cachefs.config.schema import (
    GIB,
    MIB,
    ClusterConfig,
    CoordinatorConfig,
    GatewayPlan,
    WorkerConfig,
)
from cachefs.errors import CapacityError, ConfigError


@pytest.fixture
def folder(tmp_path):
    made = StateFolder(tmp_path / "state")
    made.prepare()
    yield made
    made.clean_up()


def blueprint(folder, *, settings=None, **flags):
    made = Blueprint(folder, make_plan(folder, **flags), settings or defaults())
    while len(made.roster.entries()) < made.plan.workers:
        made.roster.add("default", made.zone)
    return made


def worker_config(plan, number=0, failures=0):
    command = plan.workers[number].command(failures)
    return read_process_config(plan.folder.config(plan.workers[number].name), "worker",
                               WorkerConfig)[1], command  # fmt: skip


def test_a_flag_wins_over_the_last_plan_and_that_over_the_default(folder):
    assert make_plan(folder).workers == 1
    save_plan(folder, make_plan(folder, workers=3, disk_bytes=GIB))
    assert make_plan(folder, workers=None).workers == 3
    assert make_plan(folder, workers=2) == make_plan(folder, workers=2, disk_bytes=GIB)


def test_a_store_with_a_password_is_not_written_down(folder):
    save_plan(folder, make_plan(folder, store_url="postgresql://me:secret@host/db"))
    assert "secret" not in folder.plan.read_text()
    save_plan(folder, make_plan(folder, store_url="postgresql:///db"))
    assert make_plan(folder).store_url == "postgresql:///db"


def test_a_plan_that_somebody_broke_is_ignored(folder):
    folder.plan.write_text('{"workers": "many", "unknown": 1, "disk_bytes": true}')
    assert make_plan(folder).workers == 1


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        ({"workers": 0}, ConfigError),
        ({"workers": 65}, ConfigError),
        ({"disk_bytes": 10 * MIB}, ConfigError),
        ({"memory_bytes": 10 * MIB}, ConfigError),
        ({"disk_bytes": 2**60}, CapacityError),
        ({"memory_bytes": 2**50}, CapacityError),
    ],
)
def test_what_the_machine_cannot_do_is_refused_before_the_start(folder, flags, error):
    plan = make_plan(folder, **{"disk_bytes": GIB, **flags})
    with pytest.raises(error):
        plan.check(folder, ClusterConfig())


def test_totals_are_divided_among_the_workers(folder):
    plan = blueprint(folder, workers=2, disk_bytes=4 * GIB, memory_bytes=GIB)
    plan.learn("coordinator", {"http": "127.0.0.1:1", "control": "127.0.0.1:2"})
    config, command = worker_config(plan)
    assert [(tier.medium, tier.capacity_bytes) for tier in config.tiers] == [
        ("memory", GIB // 2),
        ("disk", 2 * GIB),
    ]
    assert config.tiers[0].folder.parent == folder.memory
    assert config.coordinator == "127.0.0.1:2"
    assert command[1:3] == ["-m", "cachefs.workers"]


def test_a_restart_uses_the_same_ports_and_a_hopeless_one_new_ones(folder):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    plan = blueprint(folder, workers=1, disk_bytes=GIB)
    plan.learn("coordinator", {"http": "127.0.0.1:1", "control": "127.0.0.1:2"})
    assert worker_config(plan)[0].data_port == 0
    plan.workers[0].became_ready({"data": f"127.0.0.1:{port}", "control": "127.0.0.1:0"})
    assert worker_config(plan, failures=1)[0].data_port == port
    again = blueprint(folder)
    assert worker_config(again)[0].data_port == port
    assert worker_config(plan, failures=3)[0].data_port == 0


def test_a_port_that_somebody_else_took_is_not_insisted_on_at_a_new_start(folder):
    plan = blueprint(folder, workers=1, disk_bytes=GIB)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        plan.learn("coordinator", {"http": f"127.0.0.1:{other.getsockname()[1]}"})
        plan.coordinator.command(0)
    config = read_process_config(folder.config("coordinator"), "coordinator", CoordinatorConfig)[1]
    assert config.http_port == 0


def test_a_configured_port_stays(folder):
    settings = defaults().with_flags({"coordinator.http_port": 4321})
    blueprint(folder, settings=settings, disk_bytes=GIB).coordinator.command(0)
    config = read_process_config(folder.config("coordinator"), "coordinator", CoordinatorConfig)[1]
    assert config.http_port == 4321
    assert config.store_url == f"sqlite:///{folder.store}"


def test_what_is_published_has_all_addresses_and_no_token(folder):
    plan = blueprint(folder, workers=1, disk_bytes=GIB)
    plan.learn("coordinator", {"http": "127.0.0.1:1", "control": "127.0.0.1:2"})
    plan.learn("worker-1", {"data": "127.0.0.1:3"})
    plan.learn("gateway", {"s3": "127.0.0.1:4", "hub": "127.0.0.1:5"})
    plan.publish()
    text = folder.cluster.read_text()
    assert "127.0.0.1:5" in text
    assert "127.0.0.1:1" in text
    assert "127.0.0.1:3" in text
    assert folder.token.read_text().strip() not in text


def test_a_gateway_is_told_where_the_system_is_and_keeps_its_ports(folder):
    settings = defaults().with_flags({"gateway.s3_port": 4321})
    plan = blueprint(folder, settings=settings, workers=1, disk_bytes=GIB)
    plan.learn("coordinator", {"http": "127.0.0.1:1", "control": "127.0.0.1:2"})
    plan.learn("worker-1", {"data": "127.0.0.1:3"})
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
    plan.learn("gateway", {"s3": "127.0.0.1:4", "hub": f"127.0.0.1:{free}"})
    (gateway,) = plan.gateways
    for failures, hub_port in ((0, free), (9, 0)):
        gateway.command(failures)
        told = read_process_config(folder.config("gateway"), "gateway", GatewayPlan)[1]
        assert (told.coordinator, told.workers) == ("127.0.0.1:1", ("127.0.0.1:3",))
        assert (told.settings.s3_port, told.settings.hub_port) == (4321, hub_port)


def test_a_system_without_a_gateway_stays_without_one(folder):
    save_plan(folder, make_plan(folder, gateway=False, disk_bytes=GIB))
    assert blueprint(folder).gateways == []
    assert len(blueprint(folder, gateway=True).gateways) == 1
