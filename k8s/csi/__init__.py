"""Datasets as volumes of pods: a CSI driver, and the node's one mount behind it.

Two daemon sets. The pod of :mod:`.mounts` has the node's mount of all datasets; the pod of :mod:`.driver` is
asked by the kubelet, and shows a pod the part of the mount that it asked for, read-only. Each can die and be
replaced without the programs that read noticing more than a pause: the driver holds copies of the mount's
descriptors (:mod:`cachefs.fuse.keeping.shelf`), and never looks into the mount by itself.

:mod:`.volumes` says what was asked for and who may, :mod:`.publishing` makes and unmakes it, by the system
calls of :mod:`.binding`, and :mod:`.published` remembers it. :mod:`.node`, :mod:`.controller` and
:mod:`.identity` are the interface; :mod:`.registration` is how the kubelet finds it. What all agree on about paths
is in :mod:`.places`.
"""
