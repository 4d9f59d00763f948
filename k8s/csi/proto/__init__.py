"""Code generated from ``csi.proto`` and ``registration.proto`` by ``make proto``."""
