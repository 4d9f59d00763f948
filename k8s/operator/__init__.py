"""The operator: what custom resources say is made so, in the coordinator and on the cluster.

There is a folder for each sort of object: :mod:`.datasets`, :mod:`.pools`, :mod:`.flows`, what these hand out
(:mod:`.programs`), and :mod:`.pods` that wait for their data. What they have in common is here, in three layers.
*Pure functions* compare what is wanted with what is there and return actions (:mod:`.actions`); they know no time but the one they are given, and nothing of how often they were
called before. A *keeper* (:mod:`.keepers`) looks at what is there, for one object of one kind, has the
function compare, and carries the actions out (:mod:`.carrying`), again and again until there are none left. The
*shell* has a desk (:mod:`.desk`) on which the names of objects lie that want to be looked at; watches put
them there (:mod:`.shell`, over kopf), and so does the time.

So nothing depends on an event: one that was missed is found at the next look, and whoever is killed half way is
followed by somebody who sees what there is. There are no finalizers (ADR 45). One operator acts at a time, the one
that holds the lease (:mod:`.leading`).
"""
