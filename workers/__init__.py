"""The worker: the cache process. It keeps blocks on tiers, fills them and serves them."""
