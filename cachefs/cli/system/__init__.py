"""The system on this machine: what ``cachefs up`` starts, keeps running, and ``down`` ends.

``plan`` says which processes there shall be, ``statefolder`` remembers it, ``supervision`` starts
them as ``children`` and restarts those that die, and ``local`` is what the commands call.
"""
