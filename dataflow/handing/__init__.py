"""Handing out: programs and rollouts that somebody else carries out, such as the operator of a cluster.

The coordinator has no rights on any cluster and no way to its pods. So what a step wants is a row of the
store (:mod:`.store`); an *executor* asks for the rows over HTTP, makes them so, and reports what it sees
(:mod:`.desk`). Steps see the rows through the ports that they use anyway: :mod:`.programs`
beside the rooms of this machine, :mod:`.targets` beside its local targets.

Each row has one name for ever, from which the executor names what it makes. So any number of
executors, one after another or side by side, make one thing of it; and a coordinator that is killed
leaves nothing that its successor would not find.
"""
