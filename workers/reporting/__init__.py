"""Reporting: what a worker knows of the machine that it runs on, and of what is on its way to it.

Hints are made of it. :mod:`.survey` looks at the machine now and then, in a thread of its own, for a
driver in trouble may take its time to answer and a renewal must not wait for it; :mod:`.machine` reads
what the kernel says, :mod:`.accelerators` asks NVIDIA's library if there is one. :mod:`.traffic` counts
transfers and estimates when what is awaited will be there. :mod:`cachefs.wire.nodereports` is the form in
which it travels with each renewal.
"""
