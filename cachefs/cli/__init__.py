"""The command line: the only place that picks real clocks, sockets, files and configuration."""
