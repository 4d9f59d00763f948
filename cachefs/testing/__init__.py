"""The public test kit: fakes that pass the contract suites, servers with faults, the simulator.

:mod:`.simulation` runs whole clusters from a seed. :mod:`.memory` has an origin, workers and a coordinator
for tests on real sockets. :mod:`.kubernetes` is an API server for what runs on a cluster. :mod:`.faulty_origin`,
:mod:`.hub` and :mod:`.s3` are origins to be read over HTTP. :mod:`.blocks` makes files whose right bytes anybody
can compute.
"""
