"""A Kubernetes API server for tests: real HTTP on loopback, in this process.

    with ApiServer() as server:
        server.install(definition, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}})
        kubeconfig = server.kubeconfig(tmp_path / "config")   # for kubectl, kopf, the kubernetes package
        server.url                                            # for raw HTTP
        server.store.get(("apps", "statefulsets", "a", "s"))  # a look inside, past HTTP

    with ApiServer(authorizing=True, tls=True) as server:
        token = server.account("cachefs", "cachefs-operator")  # whose rights are what roles and bindings say
        server.kubeconfig(tmp_path / "config", token=token)
        server.route("cachefs", "cachefs-webhook", "127.0.0.1", port)  # where a webhook's service is
        server.inject(Fault(verb="update", resource="leases", code=429, retry_after_seconds=1))
        server.inject(Fault(verb="create", drop=True, after=True))  # done, but nobody hears of it
        server.drop_watches(); server.compact(); server.settle()

It follows the API's documented conventions for what clients see: versions and conflicts, watches, patches, server-side apply,
custom resources, subresources, finalizers, owners. It has no controllers but the garbage collector and the one that
empties namespaces: nobody makes pods of a stateful set here, and a pod that is bound to a node stays until
somebody deletes it with no grace, as a kubelet does.

One request goes :mod:`.serving` → :mod:`.api` → :mod:`.reading`, :mod:`.writing` or :mod:`.deletions` → :mod:`.store`. What a kind
looks like is its :mod:`shape <.shapes>`: of Kubernetes' own kinds as published, of custom ones as installed.
"""

from cachefs.testing.kubernetes.faults import Fault
from cachefs.testing.kubernetes.server import ApiServer

__all__ = ["ApiServer", "Fault"]
