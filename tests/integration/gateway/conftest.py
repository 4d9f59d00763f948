"""A system of real processes with a gateway in this one, and the environment of its clients."""

import os
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cachefs.config.schema import GatewayConfig, GatewayPlan, ReaderConfig
from cachefs.gateway.credentials import REGION, access_key, hub_token
from cachefs.gateway.process import Gateway
from cachefs.transport.runtime import ThreadRuntime
from tests.integration.systems import MIB, System

FILES = {
    "config.json": b'{"model_type": "x"}',
    "empty": b"",
    "sub/a b+c%.txt": b"hello",
    "sub/deep/é": b"accent",
    "weights.bin": random.Random(1).randbytes(3 * MIB + 17),
}
_VARIABLES = ("AWS_", "HF_", "HUGGING_FACE")


@dataclass
class Site:
    """A running system."""

    system: System
    folder: Path
    gateway: Gateway

    @property
    def s3(self) -> str:
        return f"http://{self.gateway.addresses['s3']}"

    @property
    def hub(self) -> str:
        return f"http://{self.gateway.addresses['hub']}"

    @property
    def key(self):
        return access_key(self.system.token)

    @property
    def hub_token(self) -> str:
        return hub_token(self.system.token).reveal()

    def environment(self) -> Mapping[str, str]:
        """Return the environment of a program that reads from here, and of nobody else."""
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(_VARIABLES)
        }
        return kept | {
            "AWS_ENDPOINT_URL": self.s3,
            "AWS_ACCESS_KEY_ID": self.key.id,
            "AWS_SECRET_ACCESS_KEY": self.key.secret.reveal(),
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/dev/null",
            "HF_ENDPOINT": self.hub,
            "HF_TOKEN": self.hub_token,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }

    def client(self, **options) -> Any:
        """Return boto3's client."""
        import boto3  # noqa: PLC0415 - it takes a second
        from botocore.config import Config  # noqa: PLC0415 - likewise

        return boto3.client(
            "s3",
            endpoint_url=self.s3,
            aws_access_key_id=self.key.id,
            aws_secret_access_key=self.key.secret.reveal(),
            region_name=REGION,
            config=Config(retries={"total_max_attempts": 1}, **options),
        )


def open_gateway(system, *, local=True, **settings):
    """Open a gateway in this process."""
    plan = GatewayPlan(
        coordinator=system.processes["coordinator"].addresses["http"],
        workers=tuple(
            each.addresses["data"] for each in system.processes.values() if "data" in each.addresses
        ),
        settings=GatewayConfig(**settings),
        reader=ReaderConfig(deadline_seconds=10.0, local=local),
    )
    return Gateway(plan, system.cluster, system.token, ThreadRuntime())


def write(folder, files):
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Two workers on this node; the dataset ``m``, and ``team/n_1`` of another namespace."""
    folder = tmp_path_factory.mktemp("gateway")
    data = folder / "data"
    write(data, FILES)
    with System(folder, block_size=256 * 1024) as system:
        system.start_coordinator()
        system.start_worker("worker-1")
        system.start_worker("worker-2")
        system.wait_for_members("worker-1", "worker-2")
        system.add("m", f"file://{data}")
        system.add("team/n_1", f"file://{data}", include=["*.json"])
        with open_gateway(system) as gateway:
            yield Site(system, data, gateway)
