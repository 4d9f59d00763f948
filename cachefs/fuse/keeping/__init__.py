"""The process that holds a mount while the process that serves it comes and goes.

The :mod:`.keeper` decides, :mod:`.holding` is the device and the place in the mount table,
:mod:`.servers` the serving processes and how the two sides talk. :mod:`.keptmemory` and
:mod:`.heartbeat` are memory that both share. Nothing here imports the read path.
"""
