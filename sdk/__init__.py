"""The SDK: what a model loader imports.

::

    from cachefs.sdk import open_dataset

    with open_dataset("llama") as llama:
        with llama.open("model-00001-of-00005.safetensors") as shard:
            shard.read_into(0, buffer)

It is light: no server package and no framework is imported, and nothing is started before the first
read. Weights are loaded by :mod:`cachefs.sdk.safetensors`; coroutines find the same datasets in
:mod:`cachefs.sdk.asynchronous`; what knows fsspec finds them by :mod:`cachefs.sdk.filesystem`. A
scheduler asks :func:`hint`.
"""

from cachefs.sdk.dataset import Dataset, open_dataset
from cachefs.sdk.files import File
from cachefs.sdk.hints import hint

__all__ = ["Dataset", "File", "hint", "open_dataset"]
