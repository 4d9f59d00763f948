"""What a scheduler waits for: kube-scheduler's extender, asked about thousands of nodes over HTTP.

The coordinator knows five thousand nodes from a file, and a dataset that one of them holds. The client
speaks as the scheduler does: one connection, all names in each request, the token as a password.
"""

import base64
import http.client
import json
import statistics
import time
from collections.abc import Sequence
from http import HTTPStatus

from cachefs.benchmarks.clusters import Cluster, WorkerPlan, pause
from cachefs.benchmarks.context import Bench
from cachefs.benchmarks.measuring import Row, limit_row
from cachefs.config.schema import GIB, MIB, HintsConfig
from cachefs.errors import DeadlineError, check
from cachefs.hints.consumers.tokens import scheduler_token

_NODES = 5000
_NODES_QUICK = 50
_REQUESTS = 200
"""In a run: the slowest but one of a hundred is what counts."""
_REQUESTS_QUICK = 10
_LIMIT_MILLISECONDS = 50.0
_START_SECONDS = 30.0
_NODES_FILE = """\
defaults: {{zone: a, nic: 25Gbit, gpus: {{count: 8, model: H100, memory: 80GiB}}}}
nodes:
  gpu-[0001-{half:04}]: {{rack: r1}}
  gpu-[{next:04}-{last:04}]: {{rack: r2, zone: b}}
uplinks:
  zones: {{b: 1Mbit}}
"""


def hint_extender(bench: Bench) -> list[Row]:
    """Ask kube-scheduler's extender about 5,000 nodes over HTTP; the slowest of a hundred requests counts."""
    count = _NODES_QUICK if bench.quick else _NODES
    names = [f"gpu-{number:04}" for number in range(1, count + 1)]
    file = bench.folder / "extender-nodes.yaml"
    file.write_text(_NODES_FILE.format(half=count // 2, next=count // 2 + 1, last=count))
    (model,) = bench.shards(MIB)
    hints = HintsConfig(nodes_file=str(file))
    with Cluster(bench.folder / "extender", hints=hints) as cluster:
        cluster.start_worker(WorkerPlan(name="one", capacity_bytes=GIB, node_name=names[0]))
        body = {"name": "llama", "origin": {"url": f"file://{model.parent}", "options": {}}}
        cluster.api.post("/v1/datasets", body)
        cluster.warm("llama")
        _wait_for_nodes(cluster, count)
        scheduler = _Scheduler(cluster, names)
        requests = _REQUESTS_QUICK if bench.quick else _REQUESTS
        rows = []
        for verb, marks in (
            ("prioritize", {}),
            ("filter", {"cachefs.io/deadline": "2s"}),
        ):
            runs = [scheduler.times(verb, marks, requests=requests) for _ in range(bench.runs)]
            middle = statistics.median(each for times in runs for each in times)
            rows.append(
                limit_row(
                    f"hint-extender, {verb}",
                    [_slowest_but_one_in_a_hundred(times) for times in runs],
                    "ms, p99",
                    limit=_LIMIT_MILLISECONDS,
                    note=f"{count:,} names, p50 {middle:.1f} ms",
                )
            )
        scheduler.close()
    return rows


def _wait_for_nodes(cluster: Cluster, count: int) -> None:
    deadline = time.perf_counter() + _START_SECONDS
    question = {"datasets": [{"name": "llama"}], "limit": count, "renderings": []}
    while time.perf_counter() < deadline:
        if len(cluster.api.post("/v1/hints", question)["nodes"]) == count:
            return
        pause()
    raise DeadlineError("the coordinator does not know all nodes")


def _slowest_but_one_in_a_hundred(times: Sequence[float]) -> float:
    return sorted(times)[int(0.99 * (len(times) - 1))]


class _Scheduler:
    """A client as kube-scheduler is one."""

    def __init__(self, cluster: Cluster, names: Sequence[str]) -> None:
        self._names = list(names)
        password = scheduler_token(cluster.token).reveal()
        credentials = base64.b64encode(f"cachefs:{password}".encode()).decode()
        self._headers = {
            "Content-Type": "application/json",
            "Authorization": f"Basic {credentials}",
        }
        self._connection = http.client.HTTPConnection(cluster.api.address)

    def times(self, verb: str, marks: dict[str, str], *, requests: int) -> list[float]:
        """Ask some hundred times; return how many milliseconds each took."""
        annotations = {"cachefs.io/datasets": "llama", **marks}
        pod = {
            "metadata": {"name": "job", "namespace": "team-a", "annotations": annotations},
            "spec": {"containers": [{"name": "main", "image": "vllm"}]},
        }
        body = json.dumps({"Pod": pod, "Nodes": None, "NodeNames": self._names}).encode()
        times = []
        for _ in range(requests):
            began = time.perf_counter()
            self._connection.request("POST", f"/k8s/extender/{verb}", body, self._headers)
            response = self._connection.getresponse()
            answer = response.read()
            times.append((time.perf_counter() - began) * 1000)
            check(response.status == HTTPStatus.OK, f"{verb} was refused")
        self._check(verb, json.loads(answer))
        return times

    def _check(self, verb: str, answer: object) -> None:
        """Check that what was measured is an answer, and not a shrug."""
        if isinstance(answer, list):
            scores = {each["Host"]: each["Score"] for each in answer}
            check(list(scores) == self._names, "not every name was answered")
            check(scores[self._names[0]] == 10, "the node that holds it is not the best")
            check(scores[self._names[-1]] < 10, "a distant node is as good")
        elif isinstance(answer, dict):
            passed = answer["NodeNames"]
            check(0 < len(passed) < len(self._names), f"{verb} told no nodes apart")

    def close(self) -> None:
        """End the connection."""
        self._connection.close()
