"""Installing: what is rendered, made on a cluster, looked at there, and taken away again.

``cachefs k8s install`` is :mod:`.applying` and then :mod:`.readiness`; its ``--dry-run`` is :mod:`.differences`;
``uninstall`` is :mod:`.removing`; ``doctor`` is :mod:`.examining`. All of it speaks with the API server as whoever
runs the command, with the rights of that person, and every wait is bounded.
"""
