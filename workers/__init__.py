"""The worker: the cache process. It keeps blocks on tiers, fills them and serves them.

:mod:`.process` puts it together and runs it. A request comes in through :mod:`.serving`; a block comes from
the :mod:`.storage` or, if it is not there, by :mod:`.filling`; a file whose digest is known goes through
:mod:`.proving` first. Beside them: :mod:`.renewal` keeps the worker a member and reports what it holds,
:mod:`.knowledge` remembers members, versions and digests while the coordinator is down, :mod:`.control`
does what the coordinator asks, such as :mod:`.drain` and :mod:`.pins`.
"""
