"""Policies that run by themselves: pools follow their load, idle datasets make room.

``forms`` is how policies are written, ``policies`` keeps them, ``uses`` knows when a dataset was last used,
``observing`` sees how busy a pool is, ``scaling`` and ``recovering`` apply the pure rules of
:mod:`cachefs.core.autoscaling` and :mod:`cachefs.core.idling`, ``duty`` does so once a second in the
coordinator that leads, ``routes`` are the HTTP API's.
"""
