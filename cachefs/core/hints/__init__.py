"""Hints, the pure part: where a job would be ready soonest, in seconds, and why.

Theory of operation. A :class:`~cachefs.core.hints.asking.Question` names what a job reads and needs.
The *fleet* (:mod:`.fleet`) is a table of all nodes: one row each, one column for each number that the
estimate needs, so that five thousand nodes are estimated by a few dozen operations on whole columns
and not by five thousand loops. A *spread* (:mod:`.spread`) says where a dataset's bytes are; with the
fleet it becomes columns of bytes by the nearest copy. The *estimate* (:mod:`.estimate`) makes seconds
of them. Where members could start, and when, is told by :mod:`.slots` for all nodes and by :mod:`.fitting`
for one. From there on everything is a choice among estimates: of one node (:mod:`.scoring`), of nodes for
a gang (:mod:`.gangs`, by the formula of :mod:`.joint`), of waiting (:mod:`.waiting`), and what is promised
meanwhile (:mod:`.reserving`).

Units: bytes, bytes per second, seconds. Moments are seconds on one monotonic clock, which is given in.
"""
