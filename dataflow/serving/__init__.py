"""Flows over HTTP: routes for the coordinator's API, and the duty that brings them into its process."""
