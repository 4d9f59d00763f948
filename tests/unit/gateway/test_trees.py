"""Trees in pages, against a model that makes the whole list."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cachefs.gateway.hub.repositories import Found
from cachefs.gateway.hub.trees import tree_page
from tests.unit.gateway.shelves import legal, version_of

SEGMENT = st.sampled_from(["a", "a-b", "a.b", "a0", "b", "\U0010ffff"])
PATHS = st.sets(
    st.lists(SEGMENT, min_size=1, max_size=4).map("/".join), min_size=1, max_size=14
).map(legal)


def model(paths, folder, *, recursive):
    """Return all items, each folder right before what is in it."""
    below = f"{folder}/" if folder else ""
    items = []
    for path in sorted(paths):
        if not path.startswith(below):
            continue
        inside = path.removeprefix(below).split("/")
        for depth in range(1, len(inside)):
            parent = below + "/".join(inside[:depth])
            if parent not in items and (recursive or depth == 1):
                items.append(parent)
        if recursive or len(inside) == 1:
            items.append(path)
    return items


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(PATHS, st.booleans(), st.integers(1, 4), st.data())
def test_pages_together_are_the_whole_tree(paths, recursive, limit, data):
    dataset = version_of("m", dict.fromkeys(paths, 1))
    folders = sorted({path.rpartition("/")[0] for path in paths})
    folder = data.draw(st.sampled_from(folders))
    found = Found("m", dataset)
    got, after = [], ""
    while True:
        page = tree_page(
            found, folder, recursive=recursive, expanded=False, after=after, limit=limit
        )
        got += [item["path"] for item in page.items]
        after = page.following
        if not after:
            break
        assert len(page.items) == limit
        assert len(got) <= 100
    assert got == model(paths, folder, recursive=recursive)
