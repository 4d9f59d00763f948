"""Storage: where a worker keeps blocks. One sparse file per file version, a journal per tier.

``store`` is the face; it chooses among ``tier`` objects, each with its ``journal`` and its open
``datafile`` objects on a ``disk``. ``holding`` has what is lent out: reservations, held blocks,
leases. ``inventory`` has what is reported, and ``scrub`` verifies in the background.
"""
