"""Hedging: when a fetch counts as slow."""

from cachefs.core.hedging import Latencies


def test_without_any_latency_the_minimum_is_the_delay():
    assert Latencies().hedge_delay(quantile=0.95, seconds_min=0.05) == 0.05


def test_the_delay_is_the_quantile_of_what_was_seen():
    latencies = Latencies()
    for milliseconds in range(1, 101):
        latencies.add(milliseconds / 1000)
    delay = latencies.hedge_delay(quantile=0.95, seconds_min=0.001)
    assert 0.09 <= delay <= 0.1


def test_the_delay_is_never_below_the_minimum():
    latencies = Latencies()
    for _ in range(50):
        latencies.add(0.001)
    assert latencies.hedge_delay(quantile=0.95, seconds_min=0.05) == 0.05


def test_old_latencies_are_forgotten():
    latencies = Latencies()
    for _ in range(500):
        latencies.add(9.0)
    for _ in range(144):
        latencies.add(0.1)
    assert latencies.quantile(0.99) == 0.1


def test_the_largest_quantile_is_the_slowest_fetch():
    latencies = Latencies()
    for seconds in (0.1, 0.3, 0.2):
        latencies.add(seconds)
    assert latencies.quantile(1.0) == 0.3
    assert latencies.quantile(0.0) == 0.1
