"""What simulated processes stand on: tasks and time, networks, sockets, disks, an origin."""
