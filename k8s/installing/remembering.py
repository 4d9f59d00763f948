"""Remembering: what was installed last, so that who says less the next time means the same.

An upgrade says a new image and nothing else. Would it mean the defaults of all else, it would ask for other disks
than those that are there, and take away what keeps tenants apart. So an installation is written down beside what
it made, as a file of values, in a config map: there is nothing secret in it, for secrets are named and not told. It
outlives the installation as its volumes do, which another installation could not take over with other values.
"""

import json
from dataclasses import fields
from typing import Any

import yaml

from cachefs.errors import ConfigError
from cachefs.k8s import kinds
from cachefs.k8s.calls import Document
from cachefs.k8s.cluster import Cluster
from cachefs.k8s.installation import Installation
from cachefs.k8s.manifests.parts import headed
from cachefs.k8s.values import VALUES, document_of, installation, told

NAME = "cachefs-installation"
"""The config map's, in the system namespace."""
_VALUES, _PLAIN = "values.yaml", "plain"


def record(wanted: Installation) -> Document:
    """Return the config map that remembers an installation."""
    head = headed("v1", "ConfigMap", NAME, "installation", wanted.namespace)
    text = json.dumps(document_of(wanted), indent=2, sort_keys=True) + "\n"
    return {**head, "data": {_VALUES: text, _PLAIN: "true" if wanted.plain else "false"}}


def continued(cluster: Cluster, given: dict[str, Any]) -> tuple[Installation, list[str]]:
    """Return what is wanted, where what is not said is as it was installed last, and what of it is no default.

    Args:
        cluster: Where it is written down.
        given: The installation's fields that are said, the namespace among them.

    Raises:
        ConfigError: What is said, or what is written there, makes no sense. Or the nodes' namespace would move.
        DeniedError: Whoever asks may not.
        ApiServerUnavailableError: Nobody answers.
    """
    before = _remembered(cluster, given["namespace"])
    if before is None:
        return installation({}, **given), []
    wanted = installation(
        {}, **{one.name: getattr(before, one.name) for one in fields(before)} | given
    )
    if wanted.node_namespace != before.node_namespace:
        raise ConfigError(
            f"what is privileged is in {before.node_namespace}",
            subject=wanted.node_namespace,
            hint="uninstall first",
        )
    return wanted, _kept(before, frozenset(given))


def _remembered(cluster: Cluster, namespace: str) -> Installation | None:
    found = cluster.get(kinds.CONFIG_MAPS, NAME, namespace)
    if found is None:
        return None
    data: dict[str, Any] = found.get("data") or {}
    try:
        document = yaml.safe_load(data.get(_VALUES, ""))
        return installation(document, namespace=namespace, plain=data.get(_PLAIN) == "true")
    except (ConfigError, yaml.YAMLError) as error:
        raise ConfigError(
            f"what was installed last cannot be read: {error}",
            subject=f"ConfigMap {namespace}/{NAME}",
            hint="delete it, and say all that is wanted",
        ) from error


def _kept(before: Installation, given: frozenset[str]) -> list[str]:
    """Return what is not said anew and is no default, as ``pool.disk 500Gi``."""
    default = Installation(image="default")
    return [
        *(["plain"] if before.plain and "plain" not in given else []),
        *(
            f"{value.path} {_shown(told(value, before))}"
            for value in VALUES
            if value.field not in given and told(value, before) != told(value, default)
        ),
    ]


def _shown(said: object) -> str:
    if isinstance(said, bool):
        return "true" if said else "false"
    return said if isinstance(said, str) and said else json.dumps(said)
