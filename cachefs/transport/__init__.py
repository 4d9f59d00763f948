"""Transport: how bytes and calls cross from one process to another.

- Over HTTP: :mod:`.blocks` and :mod:`.metadata` for readers, :mod:`.api` for commands, all over
  :mod:`.connections`; :mod:`.serving` is the other end.
- On one node: :mod:`.local` reads through descriptors that workers lent, :mod:`.nearby` has blocks filled
  by a worker without the network; both over the Unix :mod:`.sockets`.
- Control, over gRPC: :mod:`.control`, client and server.
- What processes stand on: the :mod:`.runtime`, the identity of a :mod:`.node`, how they are run
  (:mod:`.running`), watched (:mod:`.events`) and told apart (:mod:`.processes`).
"""
