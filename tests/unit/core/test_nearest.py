"""Suggestions for misspelt names."""

from itertools import count

from cachefs.core.nearest import did_you_mean


def test_the_nearest_name_is_asked_about():
    assert did_you_mean("imagnet", ["coco", "imagenet", "imagination"]) == "did you mean imagenet?"


def test_where_nothing_is_near_there_is_no_hint():
    assert did_you_mean("imagenet", ["coco", "c4"]) == ""
    assert did_you_mean("imagenet", []) == ""


def test_names_without_end_are_not_all_compared():
    assert did_you_mean("worker-1", (f"{number:09}" for number in count())) == ""
