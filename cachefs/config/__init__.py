"""Configuration: what can be set, in which units, and where each value came from."""
