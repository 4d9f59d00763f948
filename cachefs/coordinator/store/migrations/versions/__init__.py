"""One module for each step. A step is never changed once it was released."""
