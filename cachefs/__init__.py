"""cachefs: a data-aware cache for model files."""

__version__ = "0.1.0"
