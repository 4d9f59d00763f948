"""Serving: bytes over HTTP for other nodes, descriptors over a Unix socket for this one.

``dataplane`` answers requests, ``handout`` speaks the local protocol; both run on the listeners of
:mod:`cachefs.transport.serving`.
"""
