"""Metrics and logs: what a process says about itself."""
