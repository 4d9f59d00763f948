"""Programs that tests run in processes of their own: an engine's loader, once for each rank."""
