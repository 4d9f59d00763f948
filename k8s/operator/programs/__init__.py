"""Programs and rollouts of flows, which the coordinator hands out: carried out as Jobs and changes of deployments.

:mod:`.jobs` and :mod:`.rollouts` say what is to be made and what became of it, and are pure; :mod:`.executing` does it.
"""
