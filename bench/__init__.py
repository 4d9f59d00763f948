"""What only a checkout has: the demo, and the full benchmark run of ``make bench``.

The scenarios themselves are part of the product, in :mod:`cachefs.benchmarks`, so that
``cachefs bench`` runs them wherever cachefs is installed.
"""
