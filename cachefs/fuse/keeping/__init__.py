"""The process that holds a mount while the process that serves it comes and goes.

The :mod:`.keeper` decides, :mod:`.holding` is the device and the place in the mount table,
:mod:`.servers` the serving processes and how the two sides talk. :mod:`.keptmemory` and
:mod:`.heartbeat` are memory that both share. On Kubernetes, what is held outlives its holder: another process keeps copies on a
:mod:`.shelf`, and the :mod:`.deposit` is a keeper's side of that. Nothing here imports the read path.
"""
