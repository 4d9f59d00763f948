"""Who may use a dataset, by its object: asked rarely, and remembered while nobody answers."""

import pytest

from cachefs.core.names import DatasetName
from cachefs.errors import ApiServerUnavailableError
from cachefs.k8s.csi.asking import FRESH_SECONDS, SharedDatasets

MODEL = DatasetName("team", "model")


class Clock:
    """The part of a runtime that is needed."""

    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now

    def condition(self):
        from cachefs.transport.runtime import ThreadRuntime  # noqa: PLC0415

        return ThreadRuntime().condition()


class Objects:
    """Answers with a document, or fails."""

    def __init__(self, document):
        self.document = document
        self.asked = []

    def get(self, kind, name, namespace=""):
        self.asked.append((kind.plural, name, namespace))
        if isinstance(self.document, Exception):
            raise self.document
        return self.document


DOWN = ApiServerUnavailableError("nobody answers")


@pytest.mark.parametrize(
    ("document", "namespaces"),
    [
        ({"spec": {"sharedWith": ["a", "b"]}}, ("a", "b")),
        ({"spec": {"sharedWith": ["*"]}}, ("*",)),
        ({"spec": {"sharedWith": ["a", 7, None]}}, ("a",)),
        ({"spec": {"sharedWith": "*"}}, ()),
        ({"spec": {"sharedWith": None}}, ()),
        ({"spec": None}, ()),
        ({}, ()),
        (None, ()),
    ],
)
def test_the_object_says_with_whom_a_dataset_is_shared(document, namespaces):
    objects = Objects(document)
    assert SharedDatasets(Clock(), objects).namespaces(MODEL) == namespaces
    assert objects.asked == [("datasets", "model", "team")]


def test_an_answer_counts_for_some_seconds():
    clock, objects = Clock(), Objects({"spec": {"sharedWith": ["a"]}})
    shared = SharedDatasets(clock, objects)
    shared.namespaces(MODEL)
    objects.document = {"spec": {}}
    assert shared.namespaces(MODEL) == ("a",)
    clock.now += FRESH_SECONDS
    assert shared.namespaces(MODEL) == ()


def test_the_last_answer_counts_while_the_api_server_is_down():
    clock, objects = Clock(), Objects({"spec": {"sharedWith": ["a"]}})
    shared = SharedDatasets(clock, objects)
    shared.namespaces(MODEL)
    objects.document = DOWN
    for _ in range(3):
        clock.now += 2 * FRESH_SECONDS
        assert shared.namespaces(MODEL) == ("a",)
    with pytest.raises(ApiServerUnavailableError):
        shared.namespaces(DatasetName("team", "other"))
    objects.document = None
    clock.now += FRESH_SECONDS
    assert shared.namespaces(MODEL) == ()


def test_without_an_api_server_nothing_is_shared():
    assert SharedDatasets(Clock(), None).namespaces(MODEL) == ()
