"""Pools: what ``CachePool`` objects say, made of stateful sets. :mod:`.pools` compares; :mod:`.keeper` looks for it."""
