"""Origin, workers and coordinator that keep everything in memory; the last two on real sockets."""
