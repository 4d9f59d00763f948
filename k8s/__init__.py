"""Kubernetes: the same processes as pods.

So far: what a cluster without an operator needs. :mod:`.installation` says what is to be installed,
:mod:`.manifests` makes the objects of it, which ``cachefs k8s render`` prints, and :mod:`.starting` is
what runs first in each pod. Custom resources, an operator and a CSI driver come on top of these.
"""
