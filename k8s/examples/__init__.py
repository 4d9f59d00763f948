"""Examples: each file is a story that can be applied as it is, once the images and addresses are yours."""
