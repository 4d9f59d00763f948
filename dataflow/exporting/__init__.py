"""Flows for others: what runs elsewhere, and is decided here all the same."""
