"""What bytes from origins cost: one rule for what is planned and for what is counted."""

_GB = 1e9
_FREE = "file:"


def is_charged(url: str) -> bool:
    """Say whether an origin may charge for what is taken from it: all may but folders."""
    return not url.startswith(_FREE)


def usd(egress_bytes: float, usd_per_gb: float) -> float:
    """Return what so many bytes cost that are charged for."""
    return egress_bytes / _GB * usd_per_gb
