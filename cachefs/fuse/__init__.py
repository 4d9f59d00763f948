"""The mount: datasets as files, read-only, for any program.

:mod:`.showing` says what a mount shows and gives the bytes; it knows no engine. :mod:`.engines` speak
with the kernel, and know nothing of datasets. A mount has two processes: the :mod:`.server` puts both
together and serves, and the one in :mod:`.keeping` holds the mount while servers come and go. What
commands know of mounts, dead and frozen ones included, is in :mod:`.mounts`.
"""
