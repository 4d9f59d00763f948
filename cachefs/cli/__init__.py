"""The command line: the only place that picks real clocks, sockets, files and configuration.

:mod:`.main` lists the commands; each has a module, under its own name or that of its kind (``ls``, ``cat``
and ``cp`` in :mod:`.reading`, ``warm``, ``pin`` and ``evict`` in :mod:`.warming`, ``mount`` in
:mod:`.mounting`). They share the :mod:`.session` with the running system, :mod:`.options`,
:mod:`.rendering`, :mod:`.progress` and :mod:`.exits`. :mod:`.system` is what ``up`` and ``down`` do.
"""
