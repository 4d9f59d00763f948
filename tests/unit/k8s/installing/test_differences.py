"""What would change reads forwards, and tells what goes."""

import json

import pytest

from cachefs.k8s.installing.differences import changes, differences

LONG = "a" * 200


@pytest.mark.parametrize(
    ("there", "wanted", "lines"),
    [
        ({"a": {"b": 1}}, {"a": {"b": 2}}, ["a.b: 1 → 2"]),
        ({"a": 1}, {"a": 1, "b": {"c": 2}}, ["b: nothing → {'c': 2}"]),
        ({"a": 1}, {"a": 1, "b": {}}, []),
        ({"a": ""}, {"a": "x"}, ['a: "" → x']),
        ({"a": [1, 2]}, {"a": [1, 3]}, ["a[1]: 2 → 3"]),
        (
            {"a": [1, 2, 3]},
            {"a": [2, 3, 4, 5]},
            ["a: 1 → nothing", "a: nothing → 4", "a: nothing → 5"],
        ),
        (
            {"env": [{"name": "A", "value": "1"}, {"name": "B"}]},
            {"env": [{"name": "B"}, {"name": "A", "value": "2"}]},
            ["env[A].value: 1 → 2"],
        ),
        (
            {"env": [{"name": "A"}, {"name": "B"}]},
            {"env": [{"name": "B"}]},
            ["env[A]: {'name': 'A'} → nothing"],
        ),
        (
            {"data": json.dumps({"a": {"b": 1, "long": LONG}})},
            {"data": json.dumps({"a": {"b": 2, "long": LONG}}, indent=2)},
            ["data: a.b: 1 → 2"],
        ),
        (
            {"text": f"{LONG}x{LONG}"},
            {"text": f"{LONG}y{LONG}"},
            [f"text: …{'a' * 20}x{'a' * 38}… → …{'a' * 20}y{'a' * 38}…"],
        ),
    ],
)
def test_what_becomes_of_each_part_is_told(there, wanted, lines):
    assert list(differences(there, wanted)) == lines


def test_what_is_not_said_is_somebody_elses_unless_it_goes():
    assert list(differences({"a": 1, "b": 2}, {"a": 1})) == []
    assert list(differences({"a": 1, "b": 2}, {"a": 1}, removing=True)) == ["b: 2 → nothing"]


def test_what_the_server_writes_is_no_change():
    before = {"metadata": {"name": "a", "generation": 1, "labels": {"x": "1"}}, "status": {"a": 1}}
    after = {"metadata": {"name": "a", "generation": 2, "resourceVersion": "7"}}
    assert list(changes(before, after)) == ["metadata.labels: {'x': '1'} → nothing"]
