"""What controllers do in the background: collect what lost its owners, and empty namespaces that are being deleted.

One thread looks after each change. An object goes when it names owners and none of them exists any more;
an owner that is deleted in the foreground waits for those that block it; dependents of one that is deleted
with ``Orphan`` are let go.
"""

from collections.abc import Iterator, Mapping, Sequence

from cachefs.ports import Closing, Runtime, Task
from cachefs.testing.kubernetes.customs import CLEAN_UP
from cachefs.testing.kubernetes.deletions import FOREGROUND, ORPHAN, Deletions
from cachefs.testing.kubernetes.documents import Document, Key
from cachefs.testing.kubernetes.failures import Refusal
from cachefs.testing.kubernetes.kinds import DEFINITIONS, Kinds
from cachefs.testing.kubernetes.requests import ADMIN, Request
from cachefs.testing.kubernetes.store import StaleError, Store

_LOOK_SECONDS = 0.5


class Collector(Closing):
    """The thread that collects."""

    def __init__(self, store: Store, kinds: Kinds, deletions: Deletions, runtime: Runtime) -> None:
        """Make it; :meth:`start` starts the thread."""
        self._store = store
        self._kinds = kinds
        self._deletions = deletions
        self._runtime = runtime
        self._task: Task | None = None
        self._seen = 0
        self.paused = False
        """Whether nothing shall be collected, as when the controllers are down."""

    def start(self) -> None:
        """Begin."""
        self._task = self._runtime.start("kubernetes-collector", self._run)

    def close(self) -> None:
        """Wait until the thread has ended; the store must have been closed."""
        if self._task is not None:
            self._task.join(10)

    def wait(self, seconds: float) -> bool:
        """Wait until all that was written has been looked at; whether that came to pass."""
        return self._store.wait(
            self._store.version, seconds, until=lambda: self._seen == self._store.version
        )

    def _run(self) -> None:
        while not self._store.closed:
            version, objects = self._store.objects()
            if not self.paused:
                for key, document in objects.items():
                    self._look(key, document, objects)
                self._seen = version
                self._store.wake()
            self._store.wait(version, _LOOK_SECONDS)

    def _look(self, key: Key, document: Document, objects: Mapping[Key, Document]) -> None:
        metadata = document["metadata"]
        try:
            if metadata.get("deletionTimestamp"):
                self._finish(key, document, objects)
            elif metadata.get("ownerReferences") and not any(self._owners(document, objects)):
                self._delete(key, metadata["uid"])
        except (Refusal, StaleError):
            return  # it was changed meanwhile: the next look sees how

    def _owners(self, document: Document, objects: Mapping[Key, Document]) -> Iterator[Document]:
        """Go through the owners of an object that exist."""
        metadata = document["metadata"]
        for reference in metadata["ownerReferences"]:
            resource = self._kinds.of_kind(reference["apiVersion"], reference["kind"])
            if resource is None:
                yield {}  # nobody can tell: the collector leaves it alone
                continue
            namespace = metadata.get("namespace", "") if resource.namespaced else ""
            owner = objects.get((*resource.stored, namespace, reference["name"]))
            if owner is not None and owner["metadata"]["uid"] == reference["uid"]:
                yield owner

    def _finish(self, key: Key, document: Document, objects: Mapping[Key, Document]) -> None:
        finalizers = document["metadata"].get("finalizers") or ()
        if key[:2] == ("", "namespaces"):
            self._empty(key, document, objects)
        elif key[:2] == DEFINITIONS and CLEAN_UP in finalizers:
            names = document["spec"]["names"]
            objects_of = (document["spec"]["group"], names["plural"])
            if self._clear([other for other in objects if other[:2] == objects_of], objects):
                self._release(key, document, CLEAN_UP)
        elif FOREGROUND in finalizers:
            blocking = False
            for other, reference in self._dependents(document, objects):
                if not objects[other]["metadata"].get("deletionTimestamp"):
                    self._delete(other, objects[other]["metadata"]["uid"], policy="Foreground")
                blocking = blocking or bool(reference.get("blockOwnerDeletion"))
            if not blocking:
                self._release(key, document, FOREGROUND)
        elif ORPHAN in finalizers:
            uid = document["metadata"]["uid"]
            for other, _ in self._dependents(document, objects):
                self._let_go(other, objects[other], uid)
            self._release(key, document, ORPHAN)

    def _dependents(
        self, owner: Document, objects: Mapping[Key, Document]
    ) -> Iterator[tuple[Key, Document]]:
        uid = owner["metadata"]["uid"]
        for key, document in objects.items():
            for reference in document["metadata"].get("ownerReferences") or ():
                if reference["uid"] == uid:
                    yield key, reference

    def _empty(self, key: Key, space: Document, objects: Mapping[Key, Document]) -> None:
        name = key[3]
        if not self._clear([other for other in objects if other[2] == name], objects):
            return
        rest = [each for each in space["spec"].get("finalizers") or () if each != "kubernetes"]
        ended = {**space, "spec": {**space["spec"], "finalizers": rest}}
        self._write(key, space, ended)

    def _clear(self, keys: Sequence[Key], objects: Mapping[Key, Document]) -> bool:
        """Delete what is there; whether nothing was."""
        for key in keys:
            if not objects[key]["metadata"].get("deletionTimestamp"):
                self._delete(key, objects[key]["metadata"]["uid"])
        return not keys

    def _let_go(self, key: Key, document: Document, uid: str) -> None:
        metadata = dict(document["metadata"])
        left = [each for each in metadata["ownerReferences"] if each["uid"] != uid]
        metadata["ownerReferences"] = left
        self._store.write(key, document, {**document, "metadata": metadata})

    def _release(self, key: Key, document: Document, finalizer: str) -> None:
        metadata = dict(document["metadata"])
        metadata["finalizers"] = [each for each in metadata["finalizers"] if each != finalizer]
        self._write(key, document, {**document, "metadata": metadata})

    def _write(self, key: Key, old: Document, new: Document) -> None:
        self._store.write(key, old, None if self._deletions.is_over(new) else new)

    def _delete(self, key: Key, uid: str, *, policy: str = "Background") -> None:
        resource = self._kinds.in_group(key[0], key[1])
        if resource is None:
            self._store.write(key, self._store.get(key), None)
            return
        body = {"propagationPolicy": policy, "preconditions": {"uid": uid}}
        request = Request(
            verb="delete",
            resource=resource,
            namespace=key[2],
            name=key[3],
            subresource="",
            query={},
            content_type="application/json",
            body=body,
            user=ADMIN,
        )
        self._deletions.delete(request)
