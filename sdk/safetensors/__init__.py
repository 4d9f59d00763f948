"""Safetensors: weights from datasets and plain paths, by the interface that loaders know.

::

    from cachefs.sdk.safetensors import iter_tensors, load_file, safe_open

    weights = load_file("cachefs://llama")

:mod:`.header` and :mod:`.index` check what files say, :mod:`.checkpoints` finds out which files are
meant, :mod:`.plan` turns tensors into ranges, :mod:`.tensors` maps files that are whole on this node
and :mod:`.streaming` fills memory with the others; :mod:`.opening` and :mod:`.loading` are the
interface. Frameworks are imported when a tensor is asked for.
"""

from cachefs.sdk.safetensors.header import SafetensorsError
from cachefs.sdk.safetensors.loading import iter_tensors, load_file
from cachefs.sdk.safetensors.opening import TensorSlice, safe_open
from cachefs.sdk.safetensors.plan import rank_slices

__all__ = [
    "SafetensorsError",
    "TensorSlice",
    "iter_tensors",
    "load_file",
    "rank_slices",
    "safe_open",
]
