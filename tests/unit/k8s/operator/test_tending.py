"""The installation's own secrets are looked at again and again, each whatever becomes of the others."""

import pytest

from cachefs.errors import ApiServerUnavailableError
from cachefs.k8s.operator.tending import TendingKeeper


class Pass:
    def __init__(self, failure=None):
        self.failure = failure
        self.passes = 0

    def work(self):
        self.passes += 1
        if self.failure is not None:
            raise self.failure


def test_everything_is_looked_at_and_again_in_a_minute():
    first, second = Pass(), Pass()
    keeper = TendingKeeper("cachefs", [first, second])
    ((namespace, name),) = keeper.sweep()
    assert namespace == "cachefs"
    assert keeper.keep(namespace, name) == 60.0
    assert (first.passes, second.passes) == (1, 1)


def test_what_cannot_be_done_stands_in_nobodys_way_and_is_told():
    gone = ApiServerUnavailableError("it does not answer")
    first, second = Pass(gone), Pass()
    keeper = TendingKeeper("cachefs", [first, second])
    with pytest.raises(ApiServerUnavailableError):
        keeper.keep("cachefs", keeper.name)
    assert second.passes == 1
