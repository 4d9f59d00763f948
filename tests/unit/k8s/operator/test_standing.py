"""What objects say of themselves, and what is told beside them."""

import pytest

from cachefs.errors import ConfigError, ConflictError, OriginNotFoundError
from cachefs.k8s.operator.actions import Patch, Tell
from cachefs.k8s.operator.standing import Condition, conditions, show, words_of


class Shown:
    """An object whose status is shown, and the events that this makes."""

    def __init__(self):
        head = {"name": "llama", "namespace": "team", "generation": 1}
        self.document = {"apiVersion": "cachefs.io/v1alpha1", "kind": "Dataset", "metadata": head}

    def says(self, ready, synced):
        """Show conditions, each a status, a reason and a message; return what is told."""
        standing = (Condition("Ready", *ready), Condition("Synced", *synced))
        status = {"conditions": conditions(self.document, standing, at=0.0)}
        actions = show(self.document, status)
        for one in actions:
            if isinstance(one, Patch):
                self.document["status"] = status
        told = [one for one in actions if isinstance(one, Tell)]
        return [(one.reason, one.message, one.warning) for one in told]


SERVED, DECLARED = ("True", "Served", "v1"), ("True", "Declared", "")
DENIED, UNKNOWN = ("False", "OriginDenied", "no entry"), ("Unknown", "OriginDenied", "no entry")
LISTING = ("False", "Listing", "the origin is being listed")


def test_what_two_conditions_say_in_the_same_words_is_told_once():
    assert Shown().says(DENIED, DENIED) == [("OriginDenied", "no entry", True)]
    assert Shown().says(LISTING, LISTING) == [("Listing", LISTING[2], False)]


def test_what_stays_is_not_told_again_and_another_message_is():
    shown = Shown()
    shown.says(DENIED, DENIED)
    assert shown.says(DENIED, DENIED) == []
    other = ("False", "OriginDenied", "the key has expired")
    assert shown.says(other, other) == [("OriginDenied", "the key has expired", True)]
    assert shown.says(("Unknown", *other[1:]), other) == []


def test_a_failure_of_what_is_served_is_one_warning_and_its_end_is_told():
    shown = Shown()
    shown.says(SERVED, DECLARED)
    assert shown.says(UNKNOWN, DENIED) == [("OriginDenied", "no entry", True)]
    assert shown.says(SERVED, DECLARED) == [("Served", "v1", False)]
    assert shown.says(UNKNOWN, DENIED) == [("OriginDenied", "no entry", True)]


def test_a_number_that_moves_in_a_harmless_message_is_no_news():
    shown = Shown()
    shown.says(("False", "Starting", "1 of 3 live"), DECLARED)
    assert shown.says(("False", "Starting", "2 of 3 live"), DECLARED) == []


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConflictError('"x" already exists', subject="/api/v1/configmaps"), '"x" already exists'),
        (ConfigError("no", subject="/apis/apps/v1/x", hint="do"), "no (do)"),
        (OriginNotFoundError("nothing there", subject="s3://b/x"), "s3://b/x: nothing there"),
    ],
)
def test_paths_of_the_api_server_are_not_for_people(error, words):
    assert words_of(error) == words
