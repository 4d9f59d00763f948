"""The mount: datasets as files, read-only, for any program.

:mod:`.operations` says what a mount shows and gives the bytes; it knows no engine. Below it lie the
tree of one version (:mod:`.tree`), the trees that one mount shows (:mod:`.namespace`), extended
attributes (:mod:`.xattrs`) and the table of errors (:mod:`.errno`). Above it are the engines, which
speak with the kernel and know nothing of datasets: :mod:`.libfuse` on the library of that name, and
``native`` on ``/dev/fuse`` itself.

A mount has two processes: the :mod:`.server` puts all that together, and the :mod:`.keeper` holds the
mount while servers come and go. What commands know of mounts, dead and frozen ones included, is in
:mod:`.mounts`.
"""
