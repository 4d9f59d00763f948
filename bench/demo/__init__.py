"""``make demo``: a real model from a real S3 server through three workers, one of which dies."""
