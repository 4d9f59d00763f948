"""Flows: publish a model as a graph of steps. Nothing is here yet."""
