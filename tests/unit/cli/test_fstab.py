"""What a line of ``/etc/fstab`` asks for."""

from pathlib import Path

import pytest

from cachefs.cli.fstab import parse_request
from cachefs.cli.mounting.request import Request
from cachefs.errors import ConfigError


def parse(*options, sloppy=False):
    return parse_request("cachefs://model", "/data", list(options), sloppy=sloppy)


def test_a_line_for_one_dataset():
    options = "ro,_netdev,nofail,x-systemd.automount,follow_current,uid=7,umask=022"
    assert parse(options) == Request(
        reference="cachefs://model", folder="/data", follow_current=True, uid=7, umask="022"
    )


def test_a_line_for_all_datasets_with_everything():
    options = (
        "all,allow-other,nonempty,no_recovery,gid=8,read_ahead=1MiB,engine=native",
        "state=/state,config=/config.yaml",
    )
    assert parse(*options) == Request(
        reference="",
        folder="/data",
        allow_other=True,
        nonempty=True,
        recovery=False,
        gid=8,
        read_ahead="1MiB",
        engine="native",
        state=Path("/state"),
        config=Path("/config.yaml"),
    )


def test_no_options_are_no_options():
    plain = Request(reference="cachefs://model", folder="/data")
    assert parse() == parse("") == parse("defaults") == plain


@pytest.mark.parametrize(
    ("option", "complaint"),
    [
        ("frobnicate", "unknown option"),
        ("uid", "needs a value"),
        ("uid=me", "needs a number"),
        ("all=yes", "takes no value"),
    ],
)
def test_a_line_that_is_wrong_is_refused(option, complaint):
    with pytest.raises(ConfigError, match=complaint):
        parse(option)


def test_unknown_options_are_forgiven_if_one_asks_for_it():
    assert parse("frobnicate", sloppy=True) == parse()
