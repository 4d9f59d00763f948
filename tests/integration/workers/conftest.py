"""Whole workers with real sockets, tiers and origins, around a coordinator in memory."""

from random import Random

import pytest

from cachefs.config.schema import ClusterConfig, FillConfig, TierConfig, WorkerConfig
from cachefs.config.secrets import Secret
from cachefs.core.datasets import OriginSpec
from cachefs.core.manifest import FileEntry, Manifest, name_file_version
from cachefs.core.names import DatasetName
from cachefs.origins.opening import open_origin
from cachefs.ports import ResolvedVersion
from cachefs.testing.memory.coordinator import MemoryCoordinator
from cachefs.transport.runtime import ThreadRuntime
from cachefs.workers.process import Worker

BLOCK = 64 * 1024
TOKEN = Secret("the-token")


class Site:
    """A folder as origin, a coordinator that knows it as dataset ``m``, and workers."""

    def __init__(self, folder):
        self.folder = folder
        self.runtime = ThreadRuntime()
        self.cluster = ClusterConfig(block_size=BLOCK, lease_seconds=2.0)
        self.token = TOKEN
        self.coordinator = MemoryCoordinator(self.runtime, self.cluster, TOKEN).start()
        self.workers = {}
        self.data = folder / "origin"
        self.data.mkdir()
        random = Random(7)
        self.files = {
            "model.bin": random.randbytes(5 * BLOCK + 1234),
            "small": b"hello",
            "empty": b"",
        }
        for name, content in self.files.items():
            (self.data / name).write_bytes(content)
        self.version = self.list_again()

    def list_again(self):
        """Make a new version of what the folder holds now."""
        spec = OriginSpec(f"file://{self.data}")
        origin = open_origin(spec, self.config("none").origin, self.runtime, client="local")
        entries = [
            FileEntry(
                each.path,
                each.size,
                each.token,
                "",
                name_file_version(spec.identity, path=each.path, size=each.size, token=each.token),
            )
            for each in origin.list_files()
        ]
        origin.close()
        version = ResolvedVersion(
            DatasetName("default", "m"), spec, "local", "default", 1, Manifest.of(entries)
        )
        self.coordinator.versions.append(version)
        return version

    def file(self, path):
        return self.version.file(self.version.manifest.find(path))

    def config(self, name, *, capacity=64 * 1024 * 1024, **options):
        tier = self.folder / f"{name}-tier"
        tier.mkdir(mode=0o700, exist_ok=True)
        return WorkerConfig(
            name=name,
            state_folder=self.folder / name,
            tiers=(TierConfig(folder=tier, medium="disk", capacity_bytes=capacity),),
            coordinator=self.coordinator.address,
            fill=FillConfig(backoff_seconds=0.01, peer_timeout_seconds=1.0),
            **options,
        )

    def add(self, name, **options):
        worker = Worker(self.config(name, **options), self.cluster, TOKEN, self.runtime)
        self.workers[name] = worker
        worker.start()
        return worker

    def wait_until(self, condition, seconds=10.0):
        deadline = self.runtime.monotonic() + seconds
        while not condition():
            assert self.runtime.monotonic() < deadline, "it did not happen"
            self.runtime.sleep(0.01)

    def origin_bytes(self):
        """Bytes that all workers have read from the origin."""
        return sum(w.filler.statistics().filled_bytes["origin"] for w in self.workers.values())

    def close(self):
        for worker in self.workers.values():
            worker.close()
        self.coordinator.close()


@pytest.fixture
def site(tmp_path):
    built = Site(tmp_path)
    yield built
    built.close()


@pytest.fixture
def worker(site):
    added = site.add("w1")
    site.wait_until(lambda: added.renewal.registered)
    return added
