"""Reading tokens: what one opens, and what it does not."""

import pytest

from cachefs.config.reading import reading_door, reading_token
from cachefs.config.secrets import Secret
from cachefs.errors import ConfigError, NotKnownError

CLUSTER = Secret("the cluster's")
OURS = ["team-a/*", "shared/llama"]
FILE = "/v1/files/" + "a" * 40


def opens(path, *datasets, method="GET", token=None, scope=OURS, **query):
    presented = (token or reading_token(CLUSTER, scope)).reveal()
    values = {name: [value] for name, value in query.items()}
    if datasets:
        values["dataset"] = list(datasets)
    return reading_door(CLUSTER)(method, path, values, presented)


BY_DATASET = [FILE, "/v1/digests/x", "/v1/manifests/x", "/v1/versions"]


@pytest.mark.parametrize("path", BY_DATASET)
def test_it_opens_the_datasets_that_it_names(path):
    assert opens(path, "team-a/tokens")
    assert opens(path, "shared/llama", method="HEAD")


def test_it_opens_what_every_reader_needs():
    for path in ("/v1/view", "/v1/cluster", "/v1/datasets/team-a/tokens"):
        assert opens(path)


@pytest.mark.parametrize(
    "dataset", ["team-b/tokens", "shared/qwen", "llama", "team-a2/x", "default/team-a"]
)
def test_another_dataset_is_as_if_there_were_none(dataset):
    for path in BY_DATASET:
        with pytest.raises(NotKnownError):
            opens(path, dataset)


def test_another_namespaces_declaration_is_as_if_there_were_none():
    with pytest.raises(NotKnownError):
        opens("/v1/datasets/team-b/tokens")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/datasets",
        "/v1/events",
        "/v1/members",
        "/v1/warm",
        "/v1/proofs/x",
        "/metrics",
        "/k8s/mutate",
        "/v1/residency/team-a/tokens",
        "/v1/datasets/team-a/tokens/versions",
    ],
)
def test_it_opens_nothing_else(path):
    assert not opens(path, "team-a/tokens")


@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE", "PUT"])
def test_it_changes_nothing(method):
    assert not opens("/v1/datasets/team-a/tokens", method=method)


@pytest.mark.parametrize("path", BY_DATASET)
def test_a_question_about_two_datasets_or_about_none_is_refused(path):
    assert not opens(path, "team-a/tokens", "team-b/tokens")
    assert not opens(path)


def test_what_only_workers_ask_is_refused():
    assert not opens(FILE, "team-a/tokens", unproven="1")


def test_it_cannot_be_widened_or_forged():
    genuine = reading_token(CLUSTER, ["team-a/*"]).reveal()
    kind, scope, proof = genuine.split(":")
    forged = [
        f"{kind}:team-b/*:{proof}",
        f"{kind}:team-a/*,team-b/*:{proof}",
        f"{kind}:{scope}:{proof[:-1]}0",
        f"{kind}:{scope}:",
        f"{kind}:{proof}",
        f"other:{scope}:{proof}",
        f"{kind}:{scope}:é",
        "",
    ]
    for each in forged:
        assert not opens(FILE, "team-a/tokens", token=Secret(each)), each
    other = reading_token(Secret("another cluster's"), ["team-a/*"])
    assert not opens(FILE, "team-a/tokens", token=other)


@pytest.mark.parametrize(
    "names", [[], ["llama"], ["team-a/"], ["/llama"], ["*/llama"], ["*/*"], ["a/b:c"], ["a/b,c/*"]]
)
def test_a_token_for_what_is_no_dataset_is_not_made(names):
    with pytest.raises(ConfigError):
        reading_token(CLUSTER, names)


def test_a_token_is_for_a_bounded_number_of_names():
    with pytest.raises(ConfigError):
        reading_token(CLUSTER, [f"team-a/d{number}" for number in range(65)])
