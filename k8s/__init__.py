"""Kubernetes: custom resources, operator, CSI driver. Nothing is here yet."""
