"""Serving over sockets with threads: what workers and the gateway have in common.

A ``listening`` socket accepts and gives each connection a thread; the bounded ``conversation`` moves
bytes in and out of one; ``requests`` are taken apart strictly; ``answering`` is the loop over those
of one connection. What a request means is not known here.
"""
