"""Pods that wait for their data: by an admission check of Kueue's, by a scheduling gate; and those that have it warmed."""
