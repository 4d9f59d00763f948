"""Every error has a number, and only our failures are logged."""

import errno
import inspect
import logging

import pytest

from cachefs import errors
from cachefs.errors import CacheFSError, InvariantError
from cachefs.fuse.showing.errno import ERRNO, failure, number_of

CLASSES = [
    each
    for _, each in inspect.getmembers(errors, inspect.isclass)
    if issubclass(each, CacheFSError) and each is not CacheFSError
]


@pytest.mark.parametrize("cls", CLASSES)
def test_every_error_class_has_a_row(cls):
    assert cls in ERRNO


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (errors.OriginChangedError("moved"), errno.ESTALE),
        (errors.OriginContentError("wrong"), errno.EIO),
        (errors.DeniedError("no"), errno.EACCES),
        (errors.DeadlineError("late"), errno.EIO),
        (errors.CapacityError("full"), errno.EIO),
        (errors.NotKnownError("nothing"), errno.ENOENT),
    ],
)
def test_an_error_becomes_the_number_that_programs_act_upon(error, number):
    assert number_of(error) == number


def test_a_class_without_a_row_has_that_of_the_nearest_above_it():
    class Special(errors.OriginChangedError):
        pass

    assert number_of(Special("x")) == errno.ESTALE


def test_a_failure_is_logged_once_and_a_name_that_is_not_there_never(caplog):
    caplog.set_level(logging.DEBUG, "cachefs.fuse")
    assert failure("lookup", errors.NotKnownError("nothing")).errno == errno.ENOENT
    assert caplog.records == []
    raised = failure("read", errors.DeadlineError("late", subject="w"), subject="a/b")
    assert raised.errno == errno.EIO
    (record,) = caplog.records
    assert record.operation == "read"
    assert record.path == "a/b"
    assert record.failure == "w: late"


def test_a_bug_is_eio_and_logged_with_its_trace(caplog):
    assert failure("read", InvariantError("impossible")).errno == errno.EIO
    assert caplog.records[0].exc_info
