"""Listings, against a model that sorts and filters a list of keys."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cachefs.gateway.s3.listing import DatasetKeys, NamespaceKeys, list_names, list_page
from tests.unit.gateway.shelves import legal, version_of

SEGMENT = st.text("ab-.é\U0010ffff", min_size=1, max_size=2).filter(lambda each: each.strip("."))
PATHS = st.sets(
    st.lists(SEGMENT, min_size=1, max_size=3).map("/".join), min_size=1, max_size=12
).map(legal)
DATASETS = st.dictionaries(st.sampled_from(["a", "a-b", "a.b", "ab", "b"]), PATHS, max_size=4)
ANY = st.one_of(st.just(""), st.text("ab-./é\U0010ffff", max_size=4))
DELIMITERS = st.sampled_from(["", "/", "a", "-", "./", "\U0010ffff"])


def model(keys, prefix, delimiter, after):
    """Return keys and groups that come after a key or group, by S3's rules, word for word."""
    found = []
    for key in sorted(keys):
        if not key.startswith(prefix) or key <= after:
            continue
        at = key.find(delimiter, len(prefix)) if delimiter else -1
        item = key if at < 0 else key[: at + len(delimiter)]
        if item != after and item not in found:
            found.append(item)
    return found


def open_datasets(datasets):
    return {name: version_of(name, dict.fromkeys(paths, 1)) for name, paths in datasets.items()}


def keys_of(opened):
    return [f"{name}/{each.path}" for name, made in opened.items() for each in made.files]


def shown(page):
    return sorted([*(each.key for each in page.keys), *page.groups])


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(DATASETS, ANY, DELIMITERS, ANY, st.integers(1, 5))
def test_a_listing_in_pages_is_what_the_model_says(datasets, prefix, delimiter, after, limit):
    opened = open_datasets(datasets)
    keys = NamespaceKeys(list(opened), opened.__getitem__)
    expected = model(keys_of(opened), prefix, delimiter, after)
    got, following = [], after
    for _ in range(len(expected) + 1):
        page = list_page(keys, prefix=prefix, delimiter=delimiter, after=following, limit=limit)
        assert len(page.keys) + len(page.groups) <= limit
        got += shown(page)
        following = page.following
        if not following:
            break
        assert len(page.keys) + len(page.groups) == limit
    assert got == expected


@settings(max_examples=40, deadline=None)
@given(DATASETS, st.sampled_from(["", "a", "a-", "a.b", "a/", "z"]), st.integers(1, 3))
def test_names_of_datasets_are_the_groups_of_their_keys(datasets, prefix, limit):
    opened = open_datasets(datasets)
    groups = model(keys_of(opened), "", "/", "")
    expected = [each for each in groups if each.startswith(prefix)]
    got, following = [], ""
    while True:
        page = list_names(list(opened), prefix=prefix, after=following, limit=limit)
        got += page.groups
        following = page.following
        if not following:
            break
    assert got == expected


def test_a_large_group_costs_one_step():
    class Counting(DatasetKeys):
        steps = 0

        def first(self, at):
            Counting.steps += 1
            return super().first(at)

    files = {f"a/{number:05}": 1 for number in range(5000)} | {"b": 1}
    keys = Counting(version_of("m", files), "m/")
    page = list_page(keys, prefix="m/", delimiter="/", after="", limit=1000)
    assert (page.groups, [each.key for each in page.keys]) == (["m/a/"], ["m/b"])
    assert Counting.steps <= 3


def test_a_dataset_is_opened_when_the_listing_comes_to_it():
    made = {name: version_of(name, {"x": 1, "y": 1}) for name in ("a", "b", "c")}
    opened = []

    def open_dataset(name):
        opened.append(name)
        return made[name]

    keys = NamespaceKeys(list(made), open_dataset)
    page = list_page(keys, prefix="", delimiter="", after="a/x", limit=1)
    assert [each.key for each in page.keys] == ["a/y"]
    assert opened == ["a", "b"]


@pytest.mark.parametrize("after", ["m/a/", "m/a/5"])
def test_a_page_that_begins_in_a_group_shows_the_rest_of_it_once(after):
    keys = DatasetKeys(version_of("m", {"a/1": 1, "a/9": 1, "b": 1}), "m/")
    page = list_page(keys, prefix="m/", delimiter="/", after=after, limit=9)
    assert shown(page) == (["m/b"] if after == "m/a/" else ["m/a/", "m/b"])
