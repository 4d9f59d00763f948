"""Buffers that blocks are received in, again and again."""

from cachefs.workers.filling.buffers import Buffers

SIZE = 4096


def test_a_buffer_that_was_given_back_is_used_again():
    buffers = Buffers(SIZE, kept_limit=2)
    first = buffers.take()
    first[:5] = b"bytes"
    buffers.give(first)
    assert buffers.take() is first


def test_two_users_never_share_a_buffer():
    buffers = Buffers(SIZE, kept_limit=2)
    one, two = buffers.take(), buffers.take()
    one[0], two[0] = 1, 2
    assert (one[0], two[0], len(one)) == (1, 2, SIZE)


def test_no_more_are_kept_than_the_limit():
    buffers = Buffers(SIZE, kept_limit=1)
    one, two = buffers.take(), buffers.take()
    buffers.give(one)
    buffers.give(two)
    assert buffers.take() is one
    assert buffers.take() is not two
