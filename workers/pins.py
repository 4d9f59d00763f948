"""Pins: which of two decisions about keeping is the newer one, when they arrive in any order.

They come on two ways: with the answer to a renewal, and pushed by a coordinator at the moment of a
change. Each is the whole list, under a revision. What is pushed counts if its revision is greater
than ours. What a renewal brings counts if ours is still the one that the renewal named; else
something was pushed meanwhile, and the next renewal will tell which is right. So a late answer undoes
nothing, and a coordinator whose store was set back is believed all the same, by the next renewal.
"""

from cachefs.core.eviction import Retention
from cachefs.ports import Runtime
from cachefs.workers.storage.store import TieredStore


class Pins:
    """What the tiers of one worker must keep. Safe from any thread."""

    def __init__(self, runtime: Runtime, store: TieredStore) -> None:
        """Begin without any."""
        self._runtime = runtime
        self._store = store
        self._turn = runtime.condition()
        self._revision = 0

    @property
    def revision(self) -> int:
        """Of the pins that are obeyed; 0 if none were heard of."""
        return self._revision

    def push(self, pins: Retention) -> int:
        """Obey pins unless newer ones are obeyed; return the revision of those that are."""
        with self._turn:
            if pins.revision > self._revision:
                self._obey(pins)
            return self._revision

    def renew(self, pins: Retention, *, named: int) -> None:
        """Obey what a renewal brought, if the revision that it ``named`` is still ours."""
        with self._turn:
            if self._revision == named:
                self._obey(pins)

    def forget_revision(self) -> None:
        """Obey whatever comes next: who admits us may count from another beginning."""
        with self._turn:
            self._revision = 0

    def expire(self) -> None:
        """Evict what has outlived its time to live."""
        self._store.expire(self._runtime.monotonic())

    def _obey(self, pins: Retention) -> None:
        self._store.set_pins(pins.pinned, pins.ttls)
        self._revision = pins.revision
