"""The webhook: pods that ask for it are changed when they are created.

:mod:`.mutating` answers the API server's reviews: it asks the coordinator for affinity and injects what
serves datasets to pods (:mod:`.injecting`), and its failures leave a pod as it was. :mod:`.server` carries
that, and kube-scheduler's extender, over TLS. The certificates for it are made by the operator
(:mod:`.certificates` decides, :mod:`.renewing` carries out) and taken up as they change (:mod:`.serving`).

:mod:`.copying`, :mod:`.endpoint` and :mod:`.showing` are the programs of the containers that are injected.
"""
