"""``cachefs hint``: where a job would be ready soonest, and what becomes of hints."""
