"""The S3 endpoint: a namespace is a bucket, and ``DATASET[@VERSION]/PATH`` is a key in it.

``service`` answers requests, ``signatures`` checks who asks, ``lists`` answers listings, for which
``listing`` walks the keys, ``documents`` writes the XML, ``refusals`` are the errors.
"""
