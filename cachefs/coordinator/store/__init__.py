"""What a coordinator remembers: one schema on two engines, SQLite and Postgres.

:mod:`.engine` opens the store and makes transactions; :mod:`.tables` is the schema, which
``migrations`` brings about step by step; the other modules hold the statements, one module an area,
as functions of a connection. They keep no rules: those are in the coordinator's own modules, which
put all that belongs to one change of state into one transaction.
"""
