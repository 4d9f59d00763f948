"""A model of what actions do, too simple to be wrong: objects in a dictionary, datasets in another."""

import copy
import itertools
from typing import Any

from cachefs.k8s.kinds import of
from cachefs.k8s.operator.actions import (
    Action,
    Apply,
    Ask,
    Create,
    Delete,
    Note,
    Patch,
    Tell,
)

Key = tuple[str, str, str]


class World:
    """Objects of Kubernetes, and what a coordinator knows."""

    def __init__(self) -> None:
        self.objects: dict[Key, dict[str, Any]] = {}
        self.datasets: dict[str, dict[str, Any]] = {}
        self.versions: dict[str, list[dict[str, Any]]] = {}
        self.pools: dict[str, dict[str, Any]] = {}
        self.policies: dict[str, Any] = {}
        self.warm_ups: list[dict[str, Any]] = []
        self.ledger: dict[str, str] = {}
        self.told: list[Tell] = []
        self.listings = 0
        self._uids = itertools.count(1)

    def put(self, document: dict[str, Any]) -> dict[str, Any]:
        kept = copy.deepcopy(document)
        kept["metadata"].setdefault("uid", f"uid-{next(self._uids)}")
        self.objects[self._key(kept)] = kept
        return kept

    def find(self, kind: str, name: str, namespace: str = "") -> dict[str, Any] | None:
        return copy.deepcopy(self.objects.get((kind, namespace, name)))

    def do(self, actions: tuple[Action, ...]) -> None:
        for action in actions:
            match action:
                case Create():
                    if self._key(action.document) not in self.objects:
                        self.put(action.document)
                case Apply():
                    before = self.objects.get(self._key(action.document), {"metadata": {}})
                    self.put(_merged(before, action.document))
                case Patch():
                    key = (action.kind.kind, action.namespace, action.name)
                    self.objects[key] = _merged(self.objects[key], action.patch)
                case Delete():
                    self.objects.pop((action.kind.kind, action.namespace, action.name), None)
                case Note():
                    line = f"{action.namespace}/{action.name}"
                    if action.line is None:
                        self.ledger.pop(line, None)
                    else:
                        self.ledger[line] = action.line
                case Tell():
                    self.told.append(action)
                case Ask():
                    self._ask(action)

    def _ask(self, ask: Ask) -> None:
        parts = ask.path.strip("/").split("/")[1:]
        match (ask.method, *parts):
            case ("PUT", "datasets", namespace, name):
                self._declare(f"{namespace}/{name}", ask.body)
            case ("PATCH", "datasets", namespace, name):
                self._choose(f"{namespace}/{name}", ask.body["current"])
            case ("POST", "datasets", namespace, name, "update"):
                self._list(f"{namespace}/{name}")
            case ("DELETE", "datasets", namespace, name):
                self.datasets.pop(f"{namespace}/{name}", None)
            case ("POST", "warm"):
                current = self.datasets[ask.body["dataset"]]["current"]
                job = {**ask.body, "version": current, "state": "waiting", "ended_at": 0.0}
                self.warm_ups.insert(0, job)
            case ("PUT", "pools", name):
                self.pools[name] = {**self.pools[name], **_set(ask.body)}
            case ("POST", "pools", name, "report"):
                pool = self.pools[name]
                pool["leaving"] = [one for one in pool["leaving"] if one not in ask.body["left"]]
                pool["problem"] = ask.body["problem"]
            case ("PATCH", "policies"):
                self.policies = _merged(self.policies, ask.body["pools"])
            case _:
                raise AssertionError(ask)

    def _declare(self, name: str, body: dict[str, Any]) -> None:
        before = self.datasets.get(name)
        means = [body[each] for each in ("origin", "include", "exclude")]
        self.datasets[name] = {**body, "current": before and before["current"]}
        if before is None or means != [before[each] for each in ("origin", "include", "exclude")]:
            self._list(name)

    def _list(self, name: str) -> None:
        self.listings += 1
        origin = self.datasets[name]["origin"]
        identity = f"v{abs(hash((origin['url'], *self.datasets[name]['include'])))}"
        self.versions.setdefault(name, [])
        if identity not in [one["id"] for one in self.versions[name]]:
            version = {"id": identity, "origin": origin, "file_count": 2, "labels": []}
            self.versions[name].insert(0, version)
        self.datasets[name]["current"] = identity

    def _choose(self, name: str, text: str) -> None:
        (version,) = [
            one
            for one in self.versions[name]
            if one["id"].startswith(text) or text in one["labels"]
        ]
        self.datasets[name] |= {"current": version["id"], "origin": version["origin"]}

    @staticmethod
    def _key(document: dict[str, Any]) -> Key:
        head = document["metadata"]
        return (of(document).kind, head.get("namespace", ""), head["name"])


def _set(body: dict[str, Any]) -> dict[str, Any]:
    """What a change of a pool changes: to name a number alone takes the zones away."""
    kept = {name: value for name, value in body.items() if value is not None}
    if "wanted" in kept:
        kept.setdefault("wanted_by_zone", {})
    kept["changed_by"] = kept.pop("by", "")
    return kept


def _merged(before: Any, patch: Any) -> Any:
    """RFC 7396."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    after = dict(before) if isinstance(before, dict) else {}
    for name, value in patch.items():
        if value is None:
            after.pop(name, None)
        else:
            after[name] = _merged(after.get(name), value)
    return after
