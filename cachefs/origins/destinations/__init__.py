"""Destinations: stores that files are written to.

An origin is read-only, and stays so. What copies files *to* a store (:mod:`cachefs.dataflow.copying`)
opens a destination for its URL besides: it can write a file, part by part, and remove one. What is there
already is listed and read through an ordinary origin at the same URL.
"""

from cachefs.origins.destinations.opening import (
    check_destination,
    check_writable,
    open_destination,
)
from cachefs.origins.destinations.writing import Destination, NewFile, Writing

__all__ = [
    "Destination",
    "NewFile",
    "Writing",
    "check_destination",
    "check_writable",
    "open_destination",
]
