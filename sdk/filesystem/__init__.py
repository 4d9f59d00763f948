"""The file system ``cachefs://`` for fsspec, which pandas, pyarrow, Ray, dask and torch read through.

::

    import fsspec

    with fsspec.open("cachefs://llama/config.json") as file: ...
    system = fsspec.filesystem("cachefs")

fsspec finds it by its entry point, so nothing of ours has to be imported; who imports this package
imports fsspec. From the outside in: :mod:`~cachefs.sdk.filesystem.system` is what fsspec calls,
:mod:`~cachefs.sdk.filesystem.contents` answers, :mod:`~cachefs.sdk.filesystem.pins` knows the
datasets and at which version each is seen.
"""

from cachefs.sdk.filesystem.system import CacheFileSystem

__all__ = ["CacheFileSystem"]
