"""Every kind of step has somebody who carries it out."""

from cachefs.config.schema import ClusterConfig, CoordinatorConfig
from cachefs.config.secrets import Secret
from cachefs.dataflow.copying.datasets import DataPlane
from cachefs.dataflow.spec.kinds import KINDS
from cachefs.dataflow.steps.registry import Parts, open_kinds
from cachefs.testing.memory.cache import MemoryCache


def test_all_kinds_but_approval_which_is_the_machine_s_are_carried_out():
    cache = MemoryCache()
    absent = object()  # neither is asked anything while kinds are opened
    parts = Parts(
        cache=cache,
        service=absent,
        registered=lambda _: None,
        places=absent,
        programs=absent,
        plane=DataPlane(cache, ClusterConfig(), Secret("token")),
        config=CoordinatorConfig(store_url="sqlite://"),
        environment={},
    )
    assert set(open_kinds(parts)) == set(KINDS) - {"approve"}
