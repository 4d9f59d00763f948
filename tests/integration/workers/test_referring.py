"""What a worker answers when it sends a block to many already, over real sockets."""

from contextlib import ExitStack

import pytest

from cachefs.config.schema import HeatConfig
from cachefs.core import placement
from cachefs.core.blocks import BlockId
from tests.integration.workers.conftest import BLOCK
from tests.integration.workers.test_serving import AUTHORIZED, ask, target

FIRST = {**AUTHORIZED, "Range": f"bytes=0-{BLOCK - 1}"}
ZONED = {**FIRST, "X-CacheFS-Zone": ""}
AS_REPLICA = {**FIRST, "Cache-Control": "from-peers"}
LIMIT = 2


@pytest.fixture
def pair(site):
    """Return the owner of the first block and another worker, at addresses of their own."""
    heat = HeatConfig(askers_limit=LIMIT)
    workers = [site.add(f"w{n}", host=f"127.0.0.{n}", heat=heat) for n in (1, 2)]
    site.wait_until(
        lambda: all(len(each.knowledge.view(deadline=0.0).members) == 2 for each in workers)
    )
    block = BlockId(site.file("model.bin").entry.file_version, 0)
    members = [each.member for each in workers]
    first = placement.order(block, members, pool="default")[0]
    return sorted(workers, key=lambda each: each.member is not first)


def busy(site, worker, count=LIMIT):
    """Return a context in which a worker is sending the first block to so many."""
    stack = ExitStack()
    for _ in range(count):
        stack.enter_context(worker.spreading.sending(site.file("model.bin"), 0))
    return stack


def test_who_says_where_it_is_is_referred_by_a_busy_owner(site, pair):
    owner, other = pair
    assert ask(owner, target(site), headers=FIRST)[0] == 206
    with busy(site, owner):
        status, headers, body = ask(owner, target(site), headers=ZONED)
    assert (status, body) == (307, b"")
    assert headers["X-CacheFS-Replica"] == other.member.worker
    assert headers["Location"].startswith(f"http://{other.member.data_address}/v1/files/")
    assert ask(owner, target(site), headers=ZONED)[0] == 206


@pytest.mark.parametrize(
    "headers",
    [
        FIRST,
        AUTHORIZED,
        {**ZONED, "Range": f"bytes=0-{BLOCK}"},
        {**ZONED, "Range": "bytes=5-9", "X-CacheFS-Zone": None},
    ],
    ids=["no zone", "no range", "two blocks", "part of a block, no zone"],
)
def test_anybody_else_is_served(site, pair, headers):
    owner = pair[0]
    ask(owner, target(site), headers=FIRST)
    given = {name: value for name, value in headers.items() if value is not None}
    with busy(site, owner):
        assert ask(owner, target(site), headers=given)[0] in (200, 206)


def test_nobody_is_referred_before_the_block_is_here_nor_by_one_who_does_not_own_it(site, pair):
    owner, other = pair
    with busy(site, owner):
        assert ask(owner, target(site), headers=ZONED)[0] == 206
    assert site.origin_bytes() == BLOCK
    ask(other, target(site), headers=FIRST)
    with busy(site, other):
        assert ask(other, target(site), headers=ZONED)[0] == 206
    assert site.origin_bytes() == BLOCK


def test_a_replica_takes_its_copy_from_the_owner_and_never_from_the_origin(site, pair):
    owner, other = pair
    assert ask(other, target(site), headers=AS_REPLICA)[0] == 504
    assert site.origin_bytes() == 0
    ask(owner, target(site), headers=FIRST)
    status, headers, body = ask(other, target(site), headers=AS_REPLICA)
    assert (status, body) == (206, site.files["model.bin"][:BLOCK])
    assert headers["X-CacheFS-Source"] == "peer"
    assert site.origin_bytes() == BLOCK
    assert other.statistics().guest_blocks == 1


def test_a_replica_whose_share_is_taken_says_so(site, pair):
    owner, other = pair
    ask(owner, target(site), headers=FIRST)
    other.store.guests.may_come = lambda _: False
    assert ask(other, target(site), headers=AS_REPLICA)[0] == 504
    ask(other, target(site), headers=FIRST)  # as anybody else may be, it is served
    assert ask(other, target(site), headers=AS_REPLICA)[0] == 206
