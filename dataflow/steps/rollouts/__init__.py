"""Rollouts: replicas of a revision, in batches, each only if the one before is healthy."""
