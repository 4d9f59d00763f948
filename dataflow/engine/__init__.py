"""Carry out what the machine decides, so that a run survives whoever carries it out.

:mod:`.store` has the rows, :mod:`.leases` says whose a run is and until when, :mod:`.context` and
:mod:`.running` are the threads of the steps, :mod:`.owned` is one run in the hands of its owner, and
:mod:`.ticking` the loop that brings all of them further. :mod:`.service` is the door.
"""
