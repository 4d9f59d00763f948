"""``cachefs mount``, ``umount`` and what other commands say of mounts.

:mod:`.commands` are what people type, and a :mod:`.request` what comes of it. :mod:`.starting` turns that
into a mount: :mod:`.plans` says what its processes are told, :mod:`.places` whether the folder will do.
:mod:`.listing` shows the mounts that there are, :mod:`.checks` what ``doctor`` finds.
"""
