"""Origins: the stores of record, opened by URL."""
