"""Serving: bytes over HTTP for other nodes, descriptors over a Unix socket for this one.

``dataplane`` answers ``requests`` read from a connection, ``handout`` speaks the local protocol;
both run on a ``listening`` socket, and share the bounded ``conversation`` with one client.
"""
