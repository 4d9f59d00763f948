"""The S3 endpoint against nginx: the same client, the same ranges, the same file in the page cache.

The gateway is a process of its own, as under ``cachefs up``. boto3 is what most programs use, and it
costs more than the server; so there is a second row with a client that does nothing but receive.
"""

import http.client
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from cachefs.benchmarks.clusters import DATASET, Cluster, WorkerPlan
from cachefs.benchmarks.context import Bench, CannotRunError
from cachefs.benchmarks.measuring import Contestant, Row
from cachefs.benchmarks.nginx import BUCKET
from cachefs.benchmarks.processes import Process
from cachefs.config.files import write_process_config
from cachefs.config.schema import GIB, MIB, GatewayConfig, GatewayPlan, ReaderConfig
from cachefs.errors import CacheFSError
from cachefs.gateway.credentials import REGION, AccessKey, access_key

RANGE_BYTES = 8 * MIB
"""As boto3's own transfers ask for."""
CONNECTIONS = 4
_TIMEOUT_SECONDS = 60.0

Ranges = list[tuple[str, int, int]]
"""Key, first byte, last byte."""


def endpoint(bench: Bench) -> list[Row]:
    """Read a checkpoint in ranges through the S3 endpoint, warm, against nginx."""
    paths = bench.shards()
    size = sum(path.stat().st_size for path in paths)
    with (
        bench.nginx(paths[0].parent) as nginx,
        Cluster(bench.folder / "endpoint") as cluster,
        ExitStack() as stack,
    ):
        cluster.start_worker(WorkerPlan(capacity_bytes=size + 2 * GIB))
        cluster.add_dataset(nginx.url, f"s3://{BUCKET}/")
        cluster.warm()
        gateway = stack.enter_context(_gateway(cluster))
        servers = {
            "cachefs": (f"http://{gateway.addresses['s3']}", f"default/{DATASET}"),
            "nginx": (nginx.url, BUCKET),
        }
        with_boto, plain = {}, {}
        for name, (url, folder) in servers.items():
            wanted = [(f"{folder}/{path.name}", *each) for path in paths for each in _cut(path)]
            client = stack.enter_context(closing(_boto(url, access_key(cluster.token))))
            with_boto[name] = Contestant(_in_turns(wanted, _boto_reader(client)))
            plain[name] = Contestant(_in_turns(wanted, _plain_reader(url)))
        _check_equal(servers, paths[0])
        others = [gateway.pid, *nginx.processes()]
        rows = []
        for scenario, contestants, least in (
            ("S3 endpoint, boto3", with_boto, 0.8),
            ("S3 endpoint, plain client", plain, None),
        ):
            comparison = bench.compare(contestants, cluster=cluster, others=others)
            rows.append(comparison.row(scenario, "cachefs", "nginx", at_least=least))
    return rows


@contextmanager
def _gateway(cluster: Cluster) -> Iterator[Process]:
    """Run a gateway that also lets in who does not sign."""
    plan = GatewayPlan(
        coordinator=cluster.api.address,
        workers=tuple(each.addresses["data"] for each in cluster.workers.values()),
        settings=GatewayConfig(anonymous=True),
        reader=ReaderConfig(),
    )
    path = cluster.folder / "gateway.json"
    write_process_config(path, "gateway", cluster.config, plan)
    process = Process(
        [sys.executable, "-m", "cachefs.gateway", "--config", str(path)],
        log=cluster.folder / "gateway.log",
        environment={"CACHEFS_TOKEN_FILE": str(cluster.folder / "token")},
    )
    try:
        yield process
    finally:
        process.stop()


def _cut(path: Path) -> Iterator[tuple[int, int]]:
    size = path.stat().st_size
    for first in range(0, size, RANGE_BYTES):
        yield first, min(first + RANGE_BYTES, size) - 1


def _in_turns(wanted: Ranges, read: Callable[[Ranges], int]) -> Callable[[], int]:
    """Return what reads all ranges on some connections, and says how many bytes that were."""
    shares = [wanted[at::CONNECTIONS] for at in range(CONNECTIONS)]

    def run() -> int:
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            return sum(pool.map(read, shares))

    return run


def _boto(url: str, key: AccessKey) -> Any:  # Any: boto3 makes its classes at run time
    try:
        import boto3  # noqa: PLC0415 - only this scenario needs it
        from botocore.config import Config  # noqa: PLC0415 - likewise
    except ImportError as error:
        raise CannotRunError("boto3 is not installed") from error
    return boto3.client(
        "s3",
        endpoint_url=url,
        aws_access_key_id=key.id,
        aws_secret_access_key=key.secret.reveal(),
        region_name=REGION,
        config=Config(s3={"addressing_style": "path"}, max_pool_connections=CONNECTIONS),
    )


def _boto_reader(client: Any) -> Callable[[Ranges], int]:  # Any: as above
    def read(share: Ranges) -> int:
        total = 0
        for path, first, last in share:
            bucket, _, key = path.partition("/")
            answer = client.get_object(Bucket=bucket, Key=key, Range=f"bytes={first}-{last}")
            total += len(answer["Body"].read())
        return total

    return read


def _plain_reader(url: str) -> Callable[[Ranges], int]:
    def read(share: Ranges) -> int:
        buffer = memoryview(bytearray(RANGE_BYTES))
        address = url.removeprefix("http://")
        total = 0
        with closing(http.client.HTTPConnection(address, timeout=_TIMEOUT_SECONDS)) as connection:
            for path, first, last in share:
                connection.request("GET", f"/{path}", headers={"Range": f"bytes={first}-{last}"})
                answer = connection.getresponse()
                wanted = buffer[: last + 1 - first]
                while wanted and (count := answer.readinto(wanted)):
                    wanted = wanted[count:]
                    total += count
                answer.read()
        return total

    return read


def _check_equal(servers: dict[str, tuple[str, str]], path: Path) -> None:
    """Make sure that both servers give the bytes of the file."""
    with path.open("rb") as file:
        file.seek(-RANGE_BYTES, 2)
        expected = file.read()
    for name, (url, folder) in servers.items():
        address = url.removeprefix("http://")
        with closing(http.client.HTTPConnection(address, timeout=_TIMEOUT_SECONDS)) as connection:
            headers = {"Range": f"bytes=-{RANGE_BYTES}"}
            connection.request("GET", f"/{folder}/{path.name}", headers=headers)
            if connection.getresponse().read() != expected:
                raise CacheFSError("the bytes are not those of the file", subject=name)
