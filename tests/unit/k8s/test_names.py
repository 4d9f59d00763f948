"""Names that have to fit, and to last."""

import pytest

from cachefs.core.names import parse_name
from cachefs.k8s.names import worker_name

LONG = "default-gke-a-cluster-of-a-long-name-pool-of-a-long-name-3f2a9c1b-x1y2.internal"


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({"POD_NAME": "cachefs-worker-0"}, "cachefs-worker-0"),
        ({"POD_NAME": "cachefs-worker-x7k2p", "WORKER_NAME": "gpu-n1"}, "gpu-n1"),
        ({"POD_NAME": "w", "WORKER_NAME": "a" * 63}, "a" * 63),
    ],
)
def test_a_worker_is_called_as_its_pod_or_as_its_node(environment, name):
    assert worker_name(environment) == name


def test_long_names_of_nodes_stay_different_and_fit():
    one, other = (worker_name({"WORKER_NAME": LONG + end}) for end in ("a", "b"))
    assert one != other
    assert one == worker_name({"WORKER_NAME": LONG + "a"})
    for name in (one, other, worker_name({"WORKER_NAME": f"{'a' * 49}-.-{'b' * 40}"})):
        assert parse_name(name, kind="worker") == name


def test_a_pod_that_says_nothing_has_no_worker():
    with pytest.raises(KeyError):
        worker_name({})
