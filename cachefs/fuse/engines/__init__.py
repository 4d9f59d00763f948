"""Engines: what speaks with the kernel. :mod:`.choice` says which one serves a mount, and why.

:mod:`.native` speaks the kernel's protocol on ``/dev/fuse`` itself, :mod:`.libfuse` leaves that to the
library of that name. Both call the operations of :mod:`cachefs.fuse.showing`.
"""
