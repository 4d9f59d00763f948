"""The coordinator: datasets, members, warm-ups and events. It never touches a byte of a file."""
