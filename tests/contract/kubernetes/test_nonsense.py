"""Whatever is sent, the server answers as documented: it refuses, and does not fail."""

import copy
from random import Random

import pytest

from tests.contract.kubernetes.clients import MAPS, PODS, config_map, definition, thing
from tests.contract.kubernetes.test_patching import DEPLOYMENTS, deployment
from tests.contract.kubernetes.test_reading import pod

VALUES = ("", "x", 0, -1, 3.5, True, None, [], {}, ["x"], {"x": "y"}, [None], [{}], "5m")
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
OBJECTS = (
    (DEPLOYMENTS, deployment()),
    (PODS, pod("p", labels={"a": "b"}, finalizers=["x.io/a"])),
    (MAPS, config_map("m", x="1")),
    (DEFINITIONS, definition({"size": {"type": "string"}}, plural="others", kind="Other")),
)


def places(document, path=()):
    inner = document.items() if isinstance(document, dict) else enumerate(document)
    for name, value in inner:
        yield (*path, name)
        if isinstance(value, dict | list):
            yield from places(value, (*path, name))


def spoiled(random, body):
    """Return an object with one value that does not belong there."""
    body = copy.deepcopy(body)
    *way, last = random.choice(list(places(body)))
    place = body
    for name in way:
        place = place[name]
    place[last] = copy.deepcopy(random.choice(VALUES))
    return body


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_no_object_makes_the_server_fail(api, things, seed):
    """api-conventions, "HTTP Status codes": 4xx for what the client got wrong."""
    random = Random(seed)
    for _ in range(120):
        path, body = random.choice((*OBJECTS, (things, thing("t", size=1, names=["x"]))))
        name = body["metadata"]["name"]
        sent = spoiled(random, body)
        send = random.choice((api.post, api.merge, api.apply, api.put))
        answer = send(path if send == api.post else f"{path}/{name}", sent)
        untyped = "failed to create typed patch object" in answer.body.get("message", "")
        assert answer.code != 500 or untyped, (sent, answer.body)
