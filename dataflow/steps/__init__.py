"""The kinds of steps: each observes the world, makes it as it shall be, and may undo that."""
