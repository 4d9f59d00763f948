"""The native engine: the kernel's FUSE protocol on ``/dev/fuse``, as much of it as reading needs.

:mod:`.protocol` has the numbers and layouts, :mod:`.device` what is asked of the system (mounting,
ioctls, sysfs), :mod:`.engine` the threads that read requests, :mod:`.dispatch` the answers,
:mod:`.modes` the choice between passing a file through and caching it, and :mod:`.journal` what a
process that takes the mount over must know.
"""
