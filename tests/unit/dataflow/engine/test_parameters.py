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
        "batch": [1, 10, 100],
        "shares": [0.5],
        "gates": [True],
        "grid": [[1, 2], [3]],
        "mixed": [1, "all"],
        "none": [],
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
        ("zones", "1,2", ["1", "2"]),
        ("zones", "7", ["7"]),
        ("zones", "", []),
        ("batch", "1,10", [1, 10]),
        ("batch", "4", [4]),
        ("batch", '["1", 10]', [1, 10]),
        ("batch", ["2", 8], [2, 8]),
        ("shares", "1, 0.25", [1, 0.25]),
        ("gates", "true,false", [True, False]),
        ("grid", '[["1", "2"], [3, 4]]', [[1, 2], [3, 4]]),
        ("mixed", "1,all", ["1", "all"]),
        ("none", "1,2", ["1", "2"]),
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
        ("zones", [1]),
        ("batch", "1,many"),
        ("batch", {"1": 10}),
        ("gates", "yes"),
        ("labels", "x"),
    ],
)
def test_what_is_something_else_is_refused(name, given):
    with pytest.raises(ConfigError, match="must be"):
        merge(FLOW, {name: given})


def test_of_a_list_it_is_said_which_one_is_wrong():
    with pytest.raises(ConfigError, match=r"batch\[1\].*must be a number, not .many"):
        merge(FLOW, {"anything": "needed", "batch": "1,many"})


def test_a_parameter_that_there_is_not_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match="did you mean replicas"):
        merge(FLOW, {"replica": 1})


def test_a_parameter_without_a_value_must_be_given_one():
    with pytest.raises(ConfigError, match="no value"):
        merge(FLOW, {"replicas": 1})
