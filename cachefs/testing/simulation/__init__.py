"""Whole clusters from a seed, in one thread: same seed, same run.

Begin at :mod:`.seeds`. A seed makes a plan (:mod:`.plans`, :mod:`.topology`), the plan a cluster
(:mod:`.cluster`), and a nemesis (:mod:`.nemesis`) breaks it. What must hold of it whatever happens is in
:mod:`.checkers` (what was read and asked), :mod:`.holdings` (what workers hold) and :mod:`.watching`
(what they evict). :mod:`.world` is what the processes stand on: time, tasks, networks, disks, an
origin. :mod:`.processes` are the shells around the real workers, readers and coordinators.
"""
