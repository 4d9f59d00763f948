"""The Hub endpoint: ``HF_ENDPOINT`` for ``huggingface_hub`` and all that is built on it.

``repositories`` finds the dataset and version that a repository and revision mean, ``trees`` lists
files as the Hub does, ``service`` answers requests.
"""
