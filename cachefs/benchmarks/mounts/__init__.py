"""The mount against its floors and against other people's mounts.

:mod:`.places` mounts and unmounts: ours as ``cachefs mount`` does it, and any other program that
mounts. :mod:`.programs` reads as ``dd``, ``mmap``, safetensors and ``ls -l`` do. :mod:`.passing` is a
file system that passes a folder through, on fusepy or mfusepy, and :mod:`.rivals` has rclone and
s3fs. The scenarios are in :mod:`.whole` (files on this node), :mod:`.distant` (files of another
worker), :mod:`.names` (``stat`` and ``ls -l``) and :mod:`.cloud` (rclone and s3fs, same S3 server).

All contestants read in this process, with the same code. None of the mounts' own pages is left
before a cold turn; what is below a mount (a worker's disk, a backing file) is in the page cache
unless the scenario says otherwise. A mount is ended with its scenario, also when that fails, is
interrupted, or when the whole process is killed.
"""
