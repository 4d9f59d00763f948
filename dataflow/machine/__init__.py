"""What happens next in a run: pure decisions over records, without clock, randomness or I/O."""
