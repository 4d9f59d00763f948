"""Pins reach a worker by the answer to its renewal."""

from cachefs.core.eviction import Retention
from cachefs.wire import messages


def test_a_pin_is_obeyed_when_the_change_returns_and_so_is_its_end(site, worker):
    file = site.file("model.bin")
    name = file.entry.file_version
    deadline = site.runtime.monotonic() + 10.0
    with worker.filler.obtain(file, 0, only_cached=False, deadline=deadline):
        pass
    pins = Retention(frozenset({name}), {}, 1)
    site.coordinator.answer.pins.CopyFrom(messages.retention_to_message(pins))
    site.wait_until(lambda: worker._pins.revision == 1)
    assert worker.store.evict([name]) == (0, (name,))
    pins = Retention(frozenset(), {}, 2)
    site.coordinator.answer.pins.CopyFrom(messages.retention_to_message(pins))
    site.wait_until(lambda: worker._pins.revision == 2)
    assert worker.store.evict([name])[1] == ()
