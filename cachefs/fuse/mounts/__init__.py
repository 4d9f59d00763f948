"""Mounts from outside: what commands and keepers know of them, whatever state they are in.

A :mod:`.mount` is a line of the kernel's :mod:`.table` and a :mod:`.runfolder`, where its processes say
who they are. Nothing waits for a mount without a bound: :mod:`.blocking` calls are left to a child, and
:mod:`.users` of a mount are found without touching it.
"""
