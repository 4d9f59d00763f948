"""Simulating: what a trace would have cost under each policy, and what a larger cache would buy.

Theory of operation. A *trace* (:mod:`.traces`) is a list of requests: when, which model, for how long.
A *world* (:mod:`.world`) has nodes with accelerators and two tiers of cache (:mod:`.caches`), and links
that are shared fairly (:mod:`.links`); it moves from event to event and knows nothing of policies. A
*policy* (:mod:`.policies`) says which waiting job starts where; the hint policies (:mod:`.hinting`) see
the world through an inventory (:mod:`.seeing`) and decide by the same code of
:mod:`cachefs.core.hints` that answers schedulers in production. A *replay* (:mod:`.replay`) puts a trace,
a world and a policy together, and counts (:mod:`.counting`); :mod:`.plotting` draws it. What a cache of
another size or another eviction policy would have hit is told by :mod:`.hits`.

Sizes of models are in no public trace. They are drawn by seed, log-uniform between two bounds, and
whoever shows a figure says so. Everything is deterministic by seed.
"""
