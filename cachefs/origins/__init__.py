"""Origins: the stores of record, opened by URL.

:func:`open_origin` returns an :class:`cachefs.ports.Origin` with its limits, filters and counters
around it. Each client has a module of its own, which is where its library and its exceptions end:
``local`` (files), ``http`` over ``exchange`` (web servers), ``obstore_bucket`` and ``s3_bucket``
(object stores), ``hub`` (Hugging Face), ``fsspec_store`` (everything else that fsspec opens).
"""

from cachefs.origins.decorators import (
    FilteredOrigin,
    LimitedOrigin,
    MeteredOrigin,
    OriginStatistics,
    RetryingOrigin,
)
from cachefs.origins.opening import check_spec, open_origin

__all__ = [
    "FilteredOrigin",
    "LimitedOrigin",
    "MeteredOrigin",
    "OriginStatistics",
    "RetryingOrigin",
    "check_spec",
    "open_origin",
]
