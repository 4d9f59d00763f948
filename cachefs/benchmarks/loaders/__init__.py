"""Loaders of weights, ours and others', on the same shards in the same run.

:mod:`.rivals` knows how the others are called, :mod:`.node` compares on one node, :mod:`.distant`
over the network, :mod:`.cold` from the bucket, :mod:`.apart` between two nodes, :mod:`.costs` counts what a rank reads and what loading takes of memory, and
:mod:`.chart` draws. Tensors are PyTorch's if it is installed, else NumPy's.
"""
