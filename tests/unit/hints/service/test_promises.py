"""Whatever is asked, in whatever order, no accelerator is promised twice, and what is given back is free."""

from collections import Counter

from hypothesis import example, given, settings
from hypothesis import strategies as st

from cachefs.core.hints.asking import Gang, WantedGpu
from tests.unit.hints.service.known import LLAMA, SIZE, Site

GPUS = 4
NODES = ("n1", "n2", "n3")
FOREVER = 7200.0
"""Jobs run so long that nothing can be promised behind them."""

asking = st.tuples(
    st.just("ask"),
    st.integers(0, 5),  # which job
    st.integers(1, GPUS),
    st.sampled_from([None, 1, 2, 3]),  # the size of its gang
)
steps = st.lists(
    st.one_of(
        asking,
        st.tuples(st.sampled_from(["cancel", "claim"]), st.integers(0, 5)),
        st.tuples(st.just("wait"), st.sampled_from([1.0, 5.0, 40.0])),
    ),
    max_size=25,
)


def take(site, step):
    """Do a step; return what an answer promised."""
    if step[0] == "wait":
        site.clock.now += step[1]
        return None
    if step[0] == "ask":
        _, job, count, size = step
        hint = site.ask(
            job=f"j{job}",
            gpu=WantedGpu(count=count),
            gang=None if size is None else Gang(size=size),
            reserve_seconds=30.0,
            expected_seconds=FOREVER,
        )
        return site.service.kept(hint)
    held = [kept for kept in site.service.reservations() if kept.job == f"j{step[1]}"]
    for kept in held:
        getattr(site.service, step[0])(kept.token)
    return None


@settings(max_examples=25, deadline=None)
@given(steps)
@example([("ask", 0, 1, None), ("ask", 0, 2, None), ("ask", 1, 2, None), ("ask", 2, 1, None)])
def test_no_accelerator_is_promised_twice(found):
    site = Site()
    for name in NODES:
        site.known.put(name, gpus=GPUS)
    site.known.hold(LLAMA, SIZE, n1=1.0, n2=0.5)
    wants = {}
    for step in found:
        kept = take(site, step)
        if kept is not None:
            wants[kept.token] = step[2]
        promised = Counter()
        for each in site.service.reservations():
            for node in each.nodes:
                promised[node] += wants[each.token]
        assert all(count <= GPUS for count in promised.values()), promised
        assert len({each.job for each in site.service.reservations()}) == len(
            site.service.reservations()
        )
    for each in site.service.reservations():
        site.service.cancel(each.token)
    site.clock.now += 60.0
    whole = site.ask(
        job="last", gpu=WantedGpu(count=GPUS), gang=Gang(size=len(NODES)), reserve_seconds=1.0
    )
    assert sorted(site.service.kept(whole).nodes) == sorted(NODES)
