"""Programs that steps run on the coordinator's machine, and that outlive it: each has a runner and a room."""
