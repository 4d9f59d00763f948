"""Reading tokens: they open the reading of some datasets, and nothing else.

Whoever has the cluster's token can do everything: declare datasets, drain workers, speak as one. A program
in somebody's namespace that only reads should not have it. A reading token names in clear what it opens,
``cachefs-read:team-a/*,shared/llama:3f…``, and follows from the cluster's token by HMAC over just these
names, so nothing is stored, coordinator and workers check it alone, and nobody can widen it. It ends when
the cluster's token is changed.

What a reader asks for names the dataset, and who answers checks that the version or file is one of that
dataset's: an id that somebody heard of opens nothing.
"""

import hmac
from collections.abc import Callable, Iterable, Mapping, Sequence

from cachefs.config.secrets import Secret
from cachefs.core.names import DatasetName, parse_name
from cachefs.errors import ConfigError, NotKnownError

EVERY = "*"
"""As a dataset's name: all of the namespace."""
_KIND = "cachefs-read"
_SCOPES_MAX = 64
_METRICS, _METRICS_PATH = "metrics", "/metrics"
"""A scope that is no dataset, for it has no namespace; and all that it opens."""
_ANYTHING = frozenset({"/v1/view", "/v1/cluster"})
"""What every reader needs, and is about no dataset."""
_BY_DATASET = ("/v1/files/", "/v1/digests/", "/v1/manifests/", "/v1/versions")
_DECLARED = "/v1/datasets/"

Query = Mapping[str, Sequence[str]]
"""A query's values by name."""


def reading_token(token: Secret, datasets: Iterable[str]) -> Secret:
    """Return the token that opens the reading of datasets.

    Args:
        token: The cluster's.
        datasets: ``namespace/name`` each, or ``namespace/*`` for all of a namespace.

    Raises:
        ConfigError: One is no name, or there is none, or there are too many.
    """
    scope = sorted(set(datasets))
    for each in scope:
        namespace, slash, name = each.partition("/")
        if not slash:
            raise ConfigError(
                "not a dataset with its namespace", subject=each, hint="write NAMESPACE/NAME"
            )
        parse_name(namespace, kind="namespace")
        if name != EVERY:
            parse_name(name, kind="dataset")
    if not 0 < len(scope) <= _SCOPES_MAX:
        raise ConfigError(f"a reading token is for 1 to {_SCOPES_MAX} datasets or namespaces")
    return Secret(f"{_KIND}:{','.join(scope)}:{_proof(token, ','.join(scope))}")


def metrics_token(token: Secret) -> Secret:
    """Return the token that opens the metrics of coordinator and workers, and nothing else.

    Args:
        token: The cluster's.
    """
    return Secret(f"{_KIND}:{_METRICS}:{_proof(token, _METRICS)}")


def reading_door(token: Secret) -> Callable[[str, str, Query, str], bool]:
    """Return what says whether a presented token opens a request: method, path, query, token.

    It raises ``NotKnownError`` if the token is one, and the request is for a dataset of others: whether there is
    such a dataset is not for its holder to know.

    Args:
        token: The cluster's.
    """

    def admits(method: str, path: str, query: Query, presented: str) -> bool:
        kind, _, rest = presented.partition(":")
        if kind != _KIND or method not in ("GET", "HEAD"):
            return False
        scope, _, proof = rest.rpartition(":")
        expected = _proof(token, scope)
        if not hmac.compare_digest(expected.encode(), proof.encode(errors="replace")):
            return False
        return _opens(frozenset(scope.split(",")), path, query)

    return admits


def _opens(scope: frozenset[str], path: str, query: Query) -> bool:
    if _METRICS in scope:
        return path == _METRICS_PATH
    if path in _ANYTHING:
        return True
    if path.startswith(_BY_DATASET):
        named = query.get("dataset", ())
        # Who sends two has one of them looked at here and perhaps the other one answered.
        return "unproven" not in query and len(named) == 1 and _is_within(named[0], scope)
    return path.startswith(_DECLARED) and _is_within(path.removeprefix(_DECLARED), scope)


def _is_within(written: str, scope: frozenset[str]) -> bool:
    try:
        dataset = DatasetName.parse(written)
    except ConfigError:
        return False
    if scope.isdisjoint({f"{dataset.namespace}/{dataset.name}", f"{dataset.namespace}/{EVERY}"}):
        raise NotKnownError("no such dataset", subject=str(dataset))
    return True


def _proof(token: Secret, scope: str) -> str:
    purpose = f"cachefs: reading {scope}".encode(errors="replace")
    return hmac.digest(token.reveal().encode(), purpose, "sha256").hex()
