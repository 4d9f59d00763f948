"""Ids are made of a runtime's randomness, and can be guessed by nobody."""

import random

from cachefs.transport.runtime import ThreadRuntime


def test_what_ids_are_made_of_has_no_state_that_could_be_learned_from_them():
    source = ThreadRuntime().random
    assert isinstance(source, random.SystemRandom)
    assert source.getrandbits(64) != source.getrandbits(64)
