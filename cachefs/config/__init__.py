"""Configuration: what can be set, in which units, and where each value came from.

People write YAML with :mod:`.units`, which :mod:`.load` merges with the environment and ``defaults.yaml``
into the classes of :mod:`.schema`. Processes that a supervisor starts read them as JSON (:mod:`.files`).
:mod:`.discovery` finds a running system and its token, one of the :mod:`.secrets`.
"""
