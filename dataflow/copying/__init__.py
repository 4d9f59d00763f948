"""Copying files from an origin, or out of the cache, to a destination: what ``migrate`` and ``backup`` do.

:mod:`.ends` opens both ends; :mod:`.datasets` shows a dataset as an origin whose bytes come through the
cache; :mod:`.plans` compares two listings; :mod:`.ledger` is what is remembered of it in a step's
checkpoint; :mod:`.copying` moves the bytes, and :mod:`.comparing` looks at what came out.
"""
