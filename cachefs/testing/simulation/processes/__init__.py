"""Processes of a simulated cluster: the real parts, in shells that can die and start again."""
