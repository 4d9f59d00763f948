"""Exit codes."""

import pytest

from cachefs import errors
from cachefs.cli import exits
from cachefs.wire.failures import STATUS


@pytest.mark.parametrize("cls", STATUS, ids=lambda cls: cls.__name__)
def test_every_error_class_has_an_exit_code_with_a_meaning(cls):
    assert exits.exit_code(cls("x")) in exits.MEANINGS
    assert exits.exit_code(cls("x")) != exits.OK


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.CoordinatorUnavailableError("x"), 3),
        (errors.NotKnownError("x"), 4),
        (errors.OriginNotFoundError("x"), 5),
        (errors.IntegrityError("x"), 6),
        (errors.DeadlineError("x"), 7),
        (errors.CapacityError("x"), 8),
        (errors.DeniedError("x"), 9),
        (errors.ConflictError("x"), 10),
        (errors.WorkerUnavailableError("x"), 1),
    ],
)
def test_codes_are_what_scripts_rely_on(error, code):
    assert exits.exit_code(error) == code


def test_the_help_lists_every_code():
    text = exits.epilog()
    assert all(f"{code} {meaning}" in text for code, meaning in exits.MEANINGS.items())
