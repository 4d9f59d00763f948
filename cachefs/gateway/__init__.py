"""The gateway: read-only endpoints for programs that know S3 or the Hugging Face Hub, and not us.

A process of its own, started by ``cachefs up``, that reads through :mod:`cachefs.client` as any
other reader. ``process`` puts it together: a ``fronts`` loop for each of two ports reads requests
and sends answers, ``s3`` and ``hub`` decide what the answers are, ``datasets`` knows what there is
to read, ``files`` keeps files open while they are asked for, and ``sending`` moves their bytes.

Nothing here writes, and nothing has a state that would be missed. Who asks must show the keys of
``credentials``, which follow from the cluster's token.
"""
