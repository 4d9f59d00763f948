"""What a driver says of itself over HTTP, to probes and to Prometheus, with and without a mount."""

import json
import urllib.error
import urllib.request

import grpc
import pytest

from tests.fuse.mounting import FILES, why_no_mounts, write_files
from tests.integration.k8s.nodes import SECONDS, Node
from tests.integration.systems import System, wait_for

pytestmark = [
    pytest.mark.fuse,
    pytest.mark.netns,
    pytest.mark.slow,
    pytest.mark.skipif(bool(why_no_mounts()), reason=why_no_mounts() or "mounts are possible"),
]


def page(node, path):
    """Return status and body of a page of the driver that was started last."""
    lines = [line for line in node.log().splitlines() if '"port"' in line]
    port = json.loads(lines[-1])["port"]
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=SECONDS) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def values(node):
    lines = page(node, "/metrics")[1].splitlines()
    pairs = [line.split() for line in lines if line.startswith("cachefs_csi_")]
    return {name.removeprefix("cachefs_csi_"): float(value) for name, value in pairs}


def test_a_driver_says_how_it_is_and_what_it_did(tmp_path):
    with System(tmp_path) as system:
        system.start_coordinator()
        system.start_worker("worker-1")
        system.wait_for_members("worker-1")
        system.add("model", write_files(tmp_path / "origin", FILES))
        with Node(system) as node:
            node.start_driver()
            node.wait_for_driver()
            assert page(node, "/healthz")[0] == 200
            assert page(node, "/readyz")[0] == 503
            assert page(node, "/nothing")[0] == 404
            before = values(node)
            assert (before["mounted"], before["shelf_held"]) == (0, 0)
            target = node.target("pod")
            for attributes in ({"dataset": "model"}, {"dataset": "../model"}):
                with pytest.raises(grpc.RpcError):
                    node.publish("v1", target, attributes)
            node.start_mounts()
            node.wait_until_serving()
            wait_for(lambda: page(node, "/readyz")[0] == 200)
            node.publish("v1", target, {"dataset": "model"})
            now = values(node)
            assert (now["mounted"], now["shelf_held"], now["targets"]) == (1, 1, 1)
            assert (now["published_total"], now["failures_total"], now["refused_total"]) == (
                1,
                1,
                1,
            )
            node.unpublish("v1", target)
            now = values(node)
            assert (now["unpublished_total"], now["targets"], now["given_up_total"]) == (1, 0, 0)
