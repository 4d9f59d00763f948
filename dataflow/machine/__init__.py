"""What happens next in a run: pure decisions over records, without clock, randomness or I/O.

:mod:`.advance` is the door: it holds a run's records (:mod:`.book`) and says what follows from them (:mod:`.decisions`).
:mod:`.preparing`, :mod:`.beginning` and :mod:`.instances` are how steps begin, :mod:`.endings` is what becomes of one
that has ended, a retry after its pause included, and :mod:`.undoing` how steps are compensated.
"""
