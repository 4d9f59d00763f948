"""The read path: the one road that SDK, mount and gateways share.

:mod:`.connecting` puts a reader together for a running system. :mod:`.reader` cuts a read into what is
on this node (:mod:`.lenders`) and what is not (:mod:`.remote`). From afar, :mod:`.fetching` asks one
worker after the other for a block, in the order of :mod:`.views`, with :mod:`.hedges`; :mod:`.lanes` are
the threads of it, and :mod:`.readahead` puts what will be wanted next into the :mod:`.block_cache`.
"""
