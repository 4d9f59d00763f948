"""What a volume's attributes mean, and who may have it."""

import pytest

from cachefs.core.names import DatasetName
from cachefs.errors import ConfigError, DeniedError
from cachefs.k8s.csi.volumes import (
    EPHEMERAL,
    POD_NAMESPACE,
    Wanted,
    check_allowed,
    parse,
    pod_namespace,
)

INLINE = "csi-" + "0f" * 32
MODEL = DatasetName("team", "model")


@pytest.mark.parametrize(
    ("attributes", "home", "wanted"),
    [
        ({"dataset": "team/model"}, "", Wanted(MODEL)),
        ({"dataset": "model"}, "team", Wanted(MODEL)),
        ({"dataset": "model"}, "", Wanted(DatasetName("default", "model"))),
        ({"dataset": "team/model", "version": "0123abcd"}, "x", Wanted(MODEL, "0123abcd")),
        ({"dataset": "team/model", "version": "v1"}, "x", Wanted(MODEL, "v1")),
        ({"dataset": "team/model", "followCurrent": "true"}, "", Wanted(MODEL, follow=True)),
        ({"dataset": "team/model", "followCurrent": "False"}, "", Wanted(MODEL)),
        ({"dataset": "team/model", "path": "/a/b/"}, "", Wanted(MODEL, path="a/b")),
        ({"use": "sockets"}, "team", Wanted(None)),
        ({"dataset": "team/model", POD_NAMESPACE: "x", EPHEMERAL: "true"}, "", Wanted(MODEL)),
        (
            {"dataset": "team/model", "storage.kubernetes.io/csiProvisionerIdentity": "1-x"},
            "",
            Wanted(MODEL),
        ),
    ],
)
def test_attributes_say_what_is_wanted(attributes, home, wanted):
    assert parse(attributes, home=home) == wanted


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"dataset": ""},
        {"dataset": "../model"},
        {"dataset": "team/../model"},
        {"dataset": "a/b/c"},
        {"dataset": "Team/model"},
        {"dataset": "team/model\0"},
        {"dataset": "team/model", "version": "../x"},
        {"dataset": "team/model", "version": "v1", "followCurrent": "true"},
        {"dataset": "team/model", "followCurrent": "yes"},
        {"dataset": "team/model", "path": "a/../../b"},
        {"dataset": "team/model", "path": ".."},
        {"dataset": "team/model", "path": "a//b"},
        {"dataset": "team/model", "path": "a\0b"},
        {"dataset": "team/model", "path": "a/" * 2100 + "a"},
        {"dataset": "team/model", "colour": "red"},
        {"use": "everything"},
        {"use": "sockets", "dataset": "team/model"},
    ],
)
def test_attributes_that_make_no_sense_are_refused(attributes):
    with pytest.raises(ConfigError):
        parse(attributes)


@pytest.mark.parametrize(
    ("wanted", "namespace", "shared", "allowed"),
    [
        (Wanted(MODEL), "team", (), True),
        (Wanted(MODEL), "other", (), False),
        (Wanted(MODEL), "other", ("other",), True),
        (Wanted(MODEL), "other", ("others", "team"), False),
        (Wanted(MODEL), "other", ("*",), True),
        (Wanted(MODEL), "default", (), False),
        (Wanted(MODEL), None, (), True),  # a persistent volume: who made it answered for it
        (Wanted(None), "cachefs", (), True),
        (Wanted(None), "team", ("*",), False),
        (Wanted(None), None, ("*",), False),
    ],
)
def test_who_may_have_what(wanted, namespace, shared, allowed):
    def check():
        check_allowed(
            wanted, namespace, system_namespace="cachefs", shared_with=lambda name: shared
        )

    if allowed:
        check()
    else:
        with pytest.raises(DeniedError):
            check()


def test_a_refusal_does_not_say_whether_there_is_such_a_dataset():
    said = []
    for shared in ((), ("somebody",)):
        with pytest.raises(DeniedError) as caught:
            check_allowed(
                Wanted(MODEL), "other", system_namespace="", shared_with=lambda name, s=shared: s
            )
        said.append(str(caught.value))
    assert said[0] == said[1]


def test_nobody_is_asked_about_datasets_of_the_pods_own_namespace():
    def shared_with(name):
        raise AssertionError(name)

    check_allowed(Wanted(MODEL), "team", system_namespace="cachefs", shared_with=shared_with)


@pytest.mark.parametrize(
    ("volume", "attributes", "namespace"),
    [
        (INLINE, {POD_NAMESPACE: "team", EPHEMERAL: "true"}, "team"),
        ("pv-1", {POD_NAMESPACE: "team", EPHEMERAL: "false"}, "team"),
        ("pv-1", {}, None),
    ],
)
def test_the_kubelet_says_whose_pod_it_is(volume, attributes, namespace):
    assert pod_namespace(volume, attributes) == namespace


@pytest.mark.parametrize(
    ("volume", "attributes"),
    [(INLINE, {}), (INLINE, {POD_NAMESPACE: ""}), ("any", {EPHEMERAL: "true"})],
)
def test_an_inline_volume_without_the_kubelets_word_is_refused(volume, attributes):
    with pytest.raises(DeniedError, match="podInfoOnMount"):
        pod_namespace(volume, attributes)
