"""Renewing: what is written where, by whom of several, and that nothing else is touched."""

import copy

import pytest

from cachefs.config.secrets import Secret
from cachefs.errors import ApiServerUnavailableError, NotKnownError
from cachefs.hints.consumers.tokens import scheduler_token
from cachefs.k8s.webhook.certificates import AUTHORITY_SECONDS, SETTLE_SECONDS
from cachefs.k8s.webhook.renewing import (
    AUTHORITY_SECRET,
    BUNDLE_MAP,
    CONFIGURATION,
    SERVING_SECRET,
    Renewal,
    names_of,
)
from tests.unit.k8s.webhook.objects import NAMESPACE, Clock, Objects
from tests.unit.k8s.webhook.test_certificates import NOON, verifies

TOKEN = Secret("the cluster's")
WEEK_SECONDS = 7 * 86400.0
NAME = f"cachefs-webhook.{NAMESPACE}.svc"


def renewal(objects, clock, token=TOKEN):
    return Renewal(objects, clock, namespace=NAMESPACE, token=token)


def in_order(objects, now=NOON):
    return verifies(objects.bundle, objects.serving["tls.crt"], now, NAME)


def test_one_pass_makes_everything():
    objects = Objects()
    renewal(objects, Clock(NOON)).work()
    assert in_order(objects)
    assert objects.serving["token"].decode() == scheduler_token(TOKEN).reveal()
    bundle = objects.kept["ConfigMap", BUNDLE_MAP]["data"]["ca.crt"]
    assert bundle.encode() == objects.bundle


def test_a_second_pass_changes_nothing():
    objects, clock = Objects(), Clock(NOON)
    renewal(objects, clock).work()
    objects.writes.clear()
    clock.now += 60
    renewal(objects, clock).work()
    assert objects.writes == []


def test_the_clusters_token_and_the_authoritys_key_are_not_where_the_webhook_is():
    objects = Objects()
    renewal(objects, Clock(NOON)).work()
    shown = b"".join(objects.serving.values())
    assert TOKEN.reveal().encode() not in shown
    assert objects.serving.keys() == {"tls.crt", "tls.key", "token"}
    assert b"PRIVATE KEY" not in str(objects.kept["ConfigMap", BUNDLE_MAP]).encode()


def test_the_rest_of_the_objects_is_as_it_was():
    objects = Objects()
    before = copy.deepcopy(objects.kept)
    renewal(objects, Clock(NOON)).work()
    for key, after in objects.kept.items():
        after["metadata"].pop("resourceVersion")
        before[key]["metadata"].pop("resourceVersion")
        after.pop("data", None)
        for hook in after.get("webhooks", ()):
            del hook["clientConfig"]["caBundle"]
    assert objects.kept == before


def test_a_new_token_reaches_the_webhook():
    objects, clock = Objects(), Clock(NOON)
    renewal(objects, clock).work()
    renewal(objects, clock, Secret("another")).work()
    assert objects.serving["token"].decode() == scheduler_token(Secret("another")).reveal()
    assert in_order(objects)


def test_two_who_write_do_not_fight():
    objects, clock = Objects(), Clock(NOON)
    first, second = renewal(objects, clock), renewal(objects, clock)
    objects.before_write = second.work  # all that the first has just looked at is different now
    first.work()
    assert in_order(objects)
    assert objects.writes.count(("Secret", AUTHORITY_SECRET)) == 2
    assert objects.writes.count(("Secret", SERVING_SECRET)) == 2


@pytest.mark.parametrize("dies_at", range(1, 8))
def test_who_dies_between_two_writes_has_lost_nothing(dies_at):
    objects, clock = Objects(), Clock(NOON)
    writes = objects.replace

    def dying(document):
        if len(objects.writes) == dies_at - 1:
            raise ApiServerUnavailableError("gone")
        return writes(document)

    objects.replace = dying
    if dies_at <= 6:
        with pytest.raises(ApiServerUnavailableError):
            renewal(objects, clock).work()
    objects.replace = writes
    renewal(objects, clock).work()
    assert in_order(objects)


def test_the_authority_changes_in_the_course_of_a_year():
    objects, clock = Objects(), Clock(NOON)
    old = None
    weeks = int(AUTHORITY_SECONDS // WEEK_SECONDS)
    for clock.now in (
        NOON + week * WEEK_SECONDS + later for week in range(weeks) for later in (0, SETTLE_SECONDS)
    ):
        renewal(objects, clock).work()
        assert in_order(objects, clock.now)
        if old is not None:  # an API server, or a server, that has not heard of the last change
            assert verifies(objects.bundle, old[1], clock.now, NAME)
            assert verifies(old[0], objects.serving["tls.crt"], clock.now, NAME)
        old = objects.bundle, objects.serving["tls.crt"]


def test_a_configuration_that_was_applied_anew_is_trusted_again():
    objects, clock = Objects(), Clock(NOON)
    renewal(objects, clock).work()
    for hook in objects.kept["MutatingWebhookConfiguration", CONFIGURATION]["webhooks"]:
        del hook["clientConfig"]["caBundle"]
    renewal(objects, clock).work()
    assert in_order(objects)


def test_without_a_configuration_the_rest_is_made():
    objects = Objects()
    del objects.kept["MutatingWebhookConfiguration", CONFIGURATION]
    del objects.kept["ConfigMap", BUNDLE_MAP]
    renewal(objects, Clock(NOON)).work()
    assert objects.serving.keys() == {"tls.crt", "tls.key", "token"}


def test_a_secret_that_is_gone_is_said():
    objects = Objects()
    del objects.kept["Secret", SERVING_SECRET]
    with pytest.raises(NotKnownError, match="apply the installation"):
        renewal(objects, Clock(NOON)).work()


@pytest.mark.parametrize("rubbish", ["!!", "e30=", "bnVsbA==", "W3t9XQ=="])
def test_rubbish_in_a_secret_is_made_anew(rubbish):
    objects, clock = Objects(), Clock(NOON)
    renewal(objects, clock).work()
    objects.kept["Secret", AUTHORITY_SECRET]["data"] = {"authorities.json": rubbish}
    objects.kept["Secret", SERVING_SECRET]["data"] = {"tls.crt": rubbish, "tls.key": rubbish}
    renewal(objects, clock).work()
    assert in_order(objects)


def test_the_first_name_is_what_api_servers_call_a_service():
    assert names_of("elsewhere")[0] == "cachefs-webhook.elsewhere.svc"
