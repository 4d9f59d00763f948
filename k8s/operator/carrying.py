"""Carrying out: actions, one after the other, on the API server and the coordinator."""

from collections.abc import Iterable

from cachefs.errors import ConflictError, NotKnownError
from cachefs.k8s.cluster import Cluster
from cachefs.k8s.operator.actions import Action, Apply, Ask, Create, Delete, Note, Patch, Tell
from cachefs.k8s.operator.datasets.ledger import Ledger
from cachefs.transport.api import Api


class Carrier:
    """Carries actions out. Safe from any thread."""

    def __init__(self, cluster: Cluster, api: Api, ledger: Ledger) -> None:
        """Do nothing yet."""
        self._cluster = cluster
        self._api = api
        self._ledger = ledger

    def carry_out(self, actions: Iterable[Action]) -> None:
        """Do one after the other; whatever fails ends it.

        Raises:
            CacheFSError: What one of them met.
        """
        for action in actions:
            if isinstance(action, Ask):
                self._ask(action)
            elif isinstance(action, Note):
                self._ledger.write(action)
            else:
                self._change(action)

    def _ask(self, action: Ask) -> None:
        try:
            self._api.fetch(action.method, action.path, action.body, timeout_seconds=action.seconds)
        except NotKnownError:
            if action.method != "DELETE":
                raise

    def _change(self, action: Apply | Create | Patch | Delete | Tell) -> None:
        cluster = self._cluster
        match action:
            case Apply():
                cluster.apply(action.document)
            case Create():
                try:
                    cluster.create(action.document)
                except ConflictError:
                    return
            case Patch():
                cluster.patch(
                    action.kind,
                    action.name,
                    action.namespace,
                    action.patch,
                    subresource=action.subresource,
                )
            case Delete():
                cluster.delete(action.kind, action.name, action.namespace, uid=action.uid)
            case Tell():
                cluster.tell(action.about, action.reason, action.message, warning=action.warning)
