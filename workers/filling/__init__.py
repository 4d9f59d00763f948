"""Filling: a block comes in once, however many ask for it.

``filler`` is the face: it joins those who wait, and carries out ``fills`` for reads and ``warming``
for jobs. ``bringing`` gets a block's bytes from ``peers`` or through open ``origins``, into
``buffers`` that are used again. ``accounts`` counts the bytes.
"""
