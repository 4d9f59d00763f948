"""Parameters: what a person types becomes what the flow's own value is."""

import pytest

from cachefs.dataflow.engine.parameters import merge
from cachefs.dataflow.spec.model import Flow
from cachefs.errors import ConfigError

FLOW = Flow(
    namespace="team",
    name="test",
    params={
        "model": "llama",
        "replicas": 3,
        "share": 0.5,
        "verify": True,
        "zones": ["a"],
        "labels": {},
        "anything": None,
    },
)


@pytest.mark.parametrize(
    ("name", "given", "merged"),
    [
        ("model", "70", "70"),
        ("replicas", "100", 100),
        ("replicas", 1.5, 1.5),
        ("share", "1e-1", 0.1),
        ("verify", "false", False),
        ("zones", "a,b, c", ["a", "b", "c"]),
        ("zones", '["x,y"]', ["x,y"]),
        ("labels", '{"k": 1}', {"k": 1}),
        ("anything", "as it is", "as it is"),
        ("anything", [1], [1]),
    ],
)
def test_a_parameter_is_read_as_what_it_is(name, given, merged):
    expected = {**FLOW.params, "anything": "needed", name: merged}
    assert merge(FLOW, {"anything": "needed", name: given}) == expected


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("model", 70),
        ("replicas", "many"),
        ("replicas", True),
        ("verify", 1),
        ("verify", "yes"),
        ("zones", {"a": 1}),
        ("labels", "x"),
    ],
)
def test_what_is_something_else_is_refused(name, given):
    with pytest.raises(ConfigError, match="must be"):
        merge(FLOW, {name: given})


def test_a_parameter_that_there_is_not_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match="did you mean replicas"):
        merge(FLOW, {"replica": 1})


def test_a_parameter_without_a_value_must_be_given_one():
    with pytest.raises(ConfigError, match="no value"):
        merge(FLOW, {"replicas": 1})
