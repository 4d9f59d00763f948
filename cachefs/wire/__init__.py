"""What our processes say to each other: names, layouts and encodings, without any I/O."""
