"""What hypothesis makes for the tests of hints: nodes, what members want, what has been promised."""

from hypothesis import strategies as st

from cachefs.core.hints.asking import WantedGpu
from cachefs.core.hints.fitting import Taken
from cachefs.core.hints.nodes import GIB, NEVER, Gpu, Node

PROFILES = ("1g.10gb", "3g.40gb")

moments = st.sampled_from([None, 0.0, 40.0, 99.0, 101.0, 110.0, 250.0])


@st.composite
def gpus(draw: st.DrawFn, index: int) -> Gpu:
    partitioned = draw(st.booleans()) and draw(st.booleans())
    used = draw(st.sampled_from([0.0, 0.0, 0.0, 0.25, 0.3, 0.5, 1.0]))
    slices = st.lists(st.sampled_from(PROFILES), max_size=3).map(tuple)
    return Gpu(
        index=index,
        model=draw(st.sampled_from(["NVIDIA H100 80GB", "NVIDIA A100"])),
        memory_bytes=draw(st.sampled_from([40, 80])) * GIB,
        memory_free_bytes=draw(st.sampled_from([None, 10 * GIB, 39 * GIB])),
        numa=index // 2 % 2,
        island=draw(st.integers(0, 1)),
        partitioned=partitioned,
        mig=draw(slices) if partitioned else (),
        mig_used=draw(slices) if partitioned else (),
        used=used,
        free_at=draw(moments) if used or partitioned else None,
    )


@st.composite
def nodes(draw: st.DrawFn, name: str = "n", most: int = 4) -> Node:
    count = draw(st.integers(0, most))
    schedulable = draw(st.integers(0, 9)) > 0
    devices = tuple(draw(gpus(at)) for at in range(count))
    return Node(name=name, gpus=devices, schedulable=schedulable)


wants = st.one_of(
    st.builds(
        WantedGpu,
        count=st.integers(0, 4),
        model=st.sampled_from([None, "h100", "A100"]),
        memory_gib=st.sampled_from([None, 40.0, 80.0]),
    ),
    st.builds(
        WantedGpu,
        model=st.sampled_from([None, "h100"]),
        fraction=st.sampled_from([0.1, 0.25, 0.3, 0.5, 1.0]),
        memory_gib=st.sampled_from([None, 5.0, 20.0]),
    ),
    st.builds(WantedGpu, mig_profile=st.sampled_from(["1g.10gb", "3G.40GB"])),
)

promises = st.lists(
    st.builds(
        Taken,
        wanted=st.one_of(st.none(), wants),
        members=st.integers(1, 2),
        until=st.sampled_from([300.0, 400.0, NEVER]),  # after every release,
    ),
    max_size=2,
).map(tuple)
