"""Parameters of runs: what a submission may give, and what it must."""

import pytest

from cachefs.dataflow.engine.parameters import merge
from cachefs.dataflow.spec.model import Flow
from cachefs.errors import ConfigError

FLOW = Flow(
    namespace="team", name="publish", params={"model": None, "copies": 3, "zones": ["a", "b"]}
)


def test_what_is_given_takes_the_place_of_the_flows_own():
    assert merge(FLOW, {"model": "llama", "copies": 5}) == {
        "model": "llama",
        "copies": 5,
        "zones": ["a", "b"],
    }


def test_a_parameter_that_the_flow_leaves_open_must_be_given():
    with pytest.raises(ConfigError, match=r"params\.model has no value") as caught:
        merge(FLOW, {"copies": 5})
    assert (caught.value.subject, caught.value.hint) == ("team/publish", "give it one")


def test_null_is_no_value_for_a_parameter_that_is_open():
    with pytest.raises(ConfigError, match=r"params\.model has no value"):
        merge(FLOW, {"model": None})


def test_what_a_person_typed_is_read_as_what_the_parameter_is():
    merged = merge(FLOW, {"model": "7", "copies": "5", "zones": "c,d"})
    assert merged == {"model": "7", "copies": 5, "zones": ["c", "d"]}


def test_a_flow_that_a_trigger_will_start_may_leave_it_open_for_now():
    assert merge(FLOW, {"copies": 5}, may_be_open=True)["model"] is None
