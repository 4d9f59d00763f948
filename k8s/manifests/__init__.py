"""Manifests: the objects that make an installation, as plain documents.

They are the one source of everything that is installed: ``cachefs k8s render`` prints them, ``cachefs k8s
install`` applies them, the chart is made of them, and the operator makes a pool's workers by the same
functions (:mod:`.workers`). Nothing in them is secret: the token that all processes share is a secret that
whoever installs makes beforehand (:data:`.parts.TOKEN_SECRET`).

A *plain* installation has a coordinator and workers, and no right in the cluster. Else there are the custom
resources, an operator for them (:mod:`.operator`), volumes (:mod:`.nodes`) and a webhook (:mod:`.webhook`);
who may do what is :mod:`.permissions`.

:mod:`.whole` puts the parts together.
"""
