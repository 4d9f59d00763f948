"""How ``--seed`` and ``--seeds`` choose what the simulation runs."""

CHUNKS = 32
"""Tests that share the seeds, so that several processes can run them."""


def pytest_generate_tests(metafunc):
    if "seeds" not in metafunc.fixturenames:
        return
    only = metafunc.config.getoption("--seed")
    if only is not None:
        metafunc.parametrize("seeds", [range(only, only + 1)], ids=[str(only)])
        return
    first = metafunc.config.getoption("--first-seed")
    count = metafunc.config.getoption("--seeds")
    size = -(-count // CHUNKS)
    chunks = [range(at, min(at + size, first + count)) for at in range(first, first + count, size)]
    metafunc.parametrize("seeds", chunks, ids=[f"{one.start}-{one.stop - 1}" for one in chunks])


def pytest_collection_modifyitems(config, items):
    """With ``--seed``, nothing but that seed runs."""
    if config.getoption("--seed") is None:
        return
    kept = [item for item in items if "seeds" in getattr(item, "fixturenames", ())]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept
