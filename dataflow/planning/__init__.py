"""What a run would take, said before it begins: bytes, seconds, the critical path, cost.

:mod:`.estimating` says it of one step, from what the cache holds now and what the steps before would
change; :mod:`.walking` has the machine decide about a run as if each step took as long as estimated;
:mod:`.planner` puts both together, and says what is over the budget or does not fit.
"""
