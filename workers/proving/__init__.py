"""Proving: a file whose digest is known is compared with it before its first byte is delivered.

``prover`` is the face. ``gathering`` reads a file's blocks in order, ``proofs`` keeps what was
proven, ``attempts`` joins those who wait for one proof.
"""
