"""The read path: the one road that SDK, mount and gateways share."""
