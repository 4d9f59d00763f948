"""The SDK: what a model loader imports."""
