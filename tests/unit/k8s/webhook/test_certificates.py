"""The webhook's certificates: what they say, and that no handshake fails while they change."""

import random
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cachefs.k8s.webhook.certificates import (
    AUTHORITY_SECONDS,
    DAY_SECONDS,
    SERVING_SECONDS,
    SETTLE_SECONDS,
    Authority,
    Keep,
    Pair,
    Seen,
    Serve,
    Trust,
    bundle_of,
    is_served_by,
    issue,
    make_authority,
    next_step,
    seconds_left,
)

NAMES = ("cachefs-webhook.cachefs.svc", "cachefs-webhook.cachefs.svc.cluster.local")
NOON = 1_800_000_000.0


def verifies(bundle: bytes, certificate: bytes, now: float, name: str = NAMES[0]) -> bool:
    """Say whether an API server that trusts a bundle would accept a certificate."""
    try:
        authorities = x509.load_pem_x509_certificates(bundle)
        verifier = (
            PolicyBuilder()
            .store(Store(authorities))
            .time(datetime.fromtimestamp(now, UTC))
            .build_server_verifier(x509.DNSName(name))
        )
        verifier.verify(x509.load_pem_x509_certificate(certificate), [])
    except (ValueError, VerificationError):
        return False
    return True


def settled(now: float = NOON, *, steps: int = 10) -> Seen:
    """Return what is there when an installation's first minute is over."""
    seen = Seen()
    for _ in range(steps):
        step = next_step(now, seen, NAMES)
        if step is None:
            return seen
        seen = done(seen, step)
    raise AssertionError("it never comes to an end")


def done(seen: Seen, step) -> Seen:
    match step:
        case Keep(authorities):
            return replace(seen, authorities=authorities)
        case Trust(bundle):
            return replace(seen, trusted=bundle)
        case Serve(pair):
            return replace(seen, serving=pair)


def steps_at(now: float, seen: Seen) -> tuple[Seen, list[type]]:
    kinds = []
    while (step := next_step(now, seen, NAMES)) is not None:
        kinds.append(type(step))
        seen = done(seen, step)
        assert len(kinds) < 10
    return seen, kinds


def test_a_new_installation_keeps_trusts_and_then_serves():
    seen, kinds = steps_at(NOON, Seen())
    assert kinds == [Keep, Trust, Keep, Serve]
    assert verifies(seen.trusted, seen.serving.certificate, NOON)


def test_the_certificate_is_for_every_name_of_the_service_and_no_other():
    seen = settled()
    for name in NAMES:
        assert verifies(seen.trusted, seen.serving.certificate, NOON, name)
    assert not verifies(seen.trusted, seen.serving.certificate, NOON, "cachefs-webhook.evil.svc")


def test_clocks_may_differ_by_minutes():
    seen = settled()
    for skew in (-600, 600):
        assert verifies(seen.trusted, seen.serving.certificate, NOON + skew)


def test_the_certificate_is_renewed_at_half_its_life():
    seen = settled()
    assert next_step(NOON + SERVING_SECONDS / 2 - 3600, seen, NAMES) is None
    later, kinds = steps_at(NOON + SERVING_SECONDS / 2 + 3600, seen)
    assert kinds == [Serve]
    assert later.trusted == seen.trusted


def test_a_new_authority_is_trusted_before_it_signs_and_the_old_one_after():
    seen = settled()
    renewed = NOON + AUTHORITY_SECONDS / 2 + 3600
    seen, _ = steps_at(renewed - DAY_SECONDS, seen)
    old = seen.serving
    seen, kinds = steps_at(renewed, seen)
    assert kinds == [Keep, Trust, Keep]
    assert seen.serving == old
    assert len(x509.load_pem_x509_certificates(seen.trusted)) == 2
    assert next_step(renewed + SETTLE_SECONDS - 1, seen, NAMES) is None
    seen, kinds = steps_at(renewed + SETTLE_SECONDS, seen)
    assert kinds == [Serve, Keep]
    assert is_served_by(seen.serving, seen.authorities[-1], NAMES, renewed)
    assert verifies(seen.trusted, old.certificate, renewed + SETTLE_SECONDS)
    assert [bool(each.key) for each in seen.authorities] == [False, True]


def test_an_authority_leaves_when_it_expires():
    seen = settled()
    now = NOON
    while now < NOON + AUTHORITY_SECONDS + 2 * DAY_SECONDS:
        now += DAY_SECONDS
        seen, _ = steps_at(now, seen)
        seen, _ = steps_at(now + SETTLE_SECONDS, seen)
        assert len(seen.authorities) <= 3
    assert all(seconds_left(each.certificate, now) > 0 for each in seen.authorities)
    assert set(x509.load_pem_x509_certificates(seen.trusted)) == set(
        x509.load_pem_x509_certificates(bundle_of(seen.authorities))
    )


def test_who_lost_the_authorities_makes_new_ones_and_goes_on_trusting_the_old_one():
    seen = settled()
    lost, kinds = steps_at(NOON + 60, replace(seen, authorities=()))
    assert kinds == [Keep, Trust, Keep]
    assert lost.serving == seen.serving
    assert verifies(lost.trusted, seen.serving.certificate, NOON + 60)
    after, kinds = steps_at(NOON + 60 + SETTLE_SECONDS, lost)
    assert kinds == [Serve]
    assert verifies(lost.trusted, after.serving.certificate, NOON + 60 + SETTLE_SECONDS)
    assert verifies(after.trusted, after.serving.certificate, NOON + 60 + SETTLE_SECONDS)


@pytest.mark.parametrize(
    "spoilt",
    [
        lambda seen: replace(seen, serving=None),
        lambda seen: replace(seen, serving=Pair(b"rubbish", b"rubbish")),
        lambda seen: replace(seen, serving=Pair(seen.serving.certificate, b"")),
        lambda seen: (
            replace(
                seen,
                serving=Pair(
                    seen.serving.certificate, issue(NOON, make_authority(NOON), NAMES).key
                ),
            )
            if seen.authorities[0].key
            else seen
        ),
        lambda seen: replace(seen, trusted=b""),
        lambda seen: replace(seen, trusted=b"rubbish"),
        lambda seen: replace(seen, authorities=(Authority(b"rubbish", b"x"),)),
        lambda seen: replace(seen, authorities=(replace(seen.authorities[0], key=b""),)),
    ],
)
def test_whatever_was_spoilt_is_mended_within_one_pass(spoilt):
    seen, _ = steps_at(NOON + 60, spoilt(settled()))
    assert verifies(seen.trusted, seen.serving.certificate, NOON + 60)
    assert next_step(NOON + 60, seen, NAMES) is None


def test_without_a_configuration_there_is_a_certificate_all_the_same():
    seen, kinds = steps_at(NOON, Seen(trusted=None))
    assert kinds == [Keep, Keep, Serve]
    assert seen.trusted is None


def test_a_service_of_another_namespace_gets_a_certificate_of_its_own_name():
    seen = settled()
    step = next_step(NOON, seen, ("cachefs-webhook.other.svc",))
    assert isinstance(step, Serve)


LAG_TRUST_SECONDS = 60.0
"""From a change of the configuration until the last API server has seen it."""
LAG_SHOWN_SECONDS = 130.0
"""From a change of the secret until the last server shows it: two minutes of the kubelet, and our look."""
SKEW_SECONDS = 300.0


@dataclass
class World:
    """What was there when, and who may still see what."""

    seen: Seen = field(default_factory=Seen)
    trusted: list[tuple[float, bytes]] = field(default_factory=list)
    shown: list[tuple[float, bytes]] = field(default_factory=list)

    def write(self, now: float, step) -> None:
        self.seen = done(self.seen, step)
        if isinstance(step, Trust):
            self.trusted.append((now, step.bundle))
        if isinstance(step, Serve):
            self.shown.append((now, step.pair.certificate))

    @staticmethod
    def _possible(history, now: float, lag: float):
        """Return what somebody whose knowledge is up to so old may go by."""
        current = [value for at, value in history if at <= now - lag][-1:]
        return current + [value for at, value in history if now - lag < at <= now]

    def failed_handshakes(self, now: float):
        for bundle in self._possible(self.trusted, now, LAG_TRUST_SECONDS):
            for certificate in self._possible(self.shown, now, LAG_SHOWN_SECONDS):
                for skew in (-SKEW_SECONDS, 0.0, SKEW_SECONDS):
                    if not verifies(bundle, certificate, now + skew):
                        yield now, skew


@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32 - 1))
@pytest.mark.slow
def test_no_handshake_fails_in_three_years_of_crashes_and_wrong_clocks(seed):
    chance = random.Random(seed)
    world, now = World(), NOON
    while next_step(now, world.seen, NAMES) is not None:
        world.write(now, next_step(now, world.seen, NAMES))
    start = now = now + 600  # the first minutes of an installation, in which nothing is served yet
    stale, killed = world.seen, False
    while now < start + 3 * 365 * DAY_SECONDS:
        # The operator looks often, and is started again when it was killed; at times it is away for days.
        away = (60.0, 90.0, 700.0, DAY_SECONDS, chance.uniform(1, 14) * DAY_SECONDS)
        now += chance.choice(away[:3] if killed else away)
        clock = now + chance.uniform(-SKEW_SECONDS, SKEW_SECONDS)
        killed = True
        for _ in range(chance.randint(0, 6)):  # then it is killed, between any two steps
            # Another leader looked before, and writes now: it is refused, as nothing it saw is so any more.
            looked = stale if chance.random() < 0.2 else world.seen
            step = next_step(clock, looked, NAMES)
            if step is None:
                killed = False
                break
            if looked == world.seen:
                world.write(now, step)
                now += chance.uniform(0, 5)
                assert list(world.failed_handshakes(now)) == []
        stale = world.seen
        if world.trusted[-1][0] > now - 2000 or world.shown[-1][0] > now - 2000:
            for later in (30.0, 61.0, 131.0):
                assert list(world.failed_handshakes(now + later)) == []
        assert list(world.failed_handshakes(now)) == []
    assert len(world.shown) > 40
