"""The examples' pods: those that ask for something are given it, and nobody is warned of anything."""

from pathlib import Path

import pytest
import yaml

from cachefs.hints.consumers.pods import question_of
from cachefs.k8s.names import HINTED, INJECT
from tests.unit.k8s.webhook.pods import injected

EXAMPLES = Path(__file__).parents[4] / "k8s" / "examples"


def templates(document, namespace=""):
    """Yield every pod, or template of one, of a document, with its namespace."""
    if isinstance(document, list):
        for each in document:
            yield from templates(each, namespace)
    if isinstance(document, dict):
        metadata = document.get("metadata")
        namespace = (metadata or {}).get("namespace", namespace) if metadata else namespace
        spec = document.get("spec")
        if isinstance(metadata, dict) and isinstance(spec, dict) and "containers" in spec:
            yield document, namespace
        for each in document.values():
            yield from templates(each, namespace)


def asking():
    for file in sorted(EXAMPLES.glob("*.yaml")):
        for document in yaml.safe_load_all(file.read_text()):
            for number, (template, namespace) in enumerate(templates(document)):
                labels = template["metadata"].get("labels", {})
                if INJECT in labels or HINTED in labels:
                    name = f"{file.stem} {document['kind']} {number}"
                    yield pytest.param(template, namespace, id=name)


FOUND = list(asking())


def test_there_are_examples_of_it():
    assert len(FOUND) >= 3


@pytest.mark.parametrize(("template", "namespace"), FOUND)
def test_an_examples_pod_is_given_what_it_asks_for(template, namespace):
    labels = template["metadata"].get("labels", {})
    after, warnings = injected(template, namespace=namespace)
    assert warnings == []
    given = after["metadata"].get("annotations", {}).get("cachefs.io/injected", "")
    assert given == labels.get(INJECT, "")
    if labels.get(HINTED) == "true":
        assert question_of(after, namespace=namespace) is not None
