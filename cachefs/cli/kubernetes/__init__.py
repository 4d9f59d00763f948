"""``cachefs k8s``: the same processes as pods of a cluster."""
