"""Hints: the service that tells schedulers where a job would be ready soonest.

The numbers come from :mod:`cachefs.core.hints`; here are the inventory that feeds it, the API that is
asked, and the forms in which each scheduler takes an answer. It is a duty of the coordinator's process.
"""
