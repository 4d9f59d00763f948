"""Mounts of ordinary users, in mount namespaces of their own, and from lines of fstab."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cachefs.fuse.mounts.table import find_mount
from tests.fuse.mounting import COMMAND_SECONDS, FILES, LARGE, Mounts
from tests.integration.systems import wait_for

pytestmark = [pytest.mark.fuse, pytest.mark.slow]

USER = 54321
"""Nobody has this number, and nobody needs to."""
HELPER = Path(sys.executable).parent / "mount.cachefs"
PRIVATE = ("unshare", "--mount", "--propagation", "private", "sh", "-ceu")


def in_private_namespace(mounts, script: str, *words: object, prefix=()):
    """Run a shell script where whatever it mounts is nobody else's."""
    return subprocess.run(
        [*prefix, *PRIVATE, script, "sh", *map(str, words)],
        env=mounts.environment,
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        check=False,
    )


@pytest.fixture
def users_mounts(shared_system, tmp_path):
    """Mounts of a user without privileges, with a state folder that this user can read."""
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    for name in ("cluster.json", "token"):
        shutil.copy2(shared_system.folder / name, state / name)
    made = Mounts(state, tmp_path)
    made.environment["HOME"] = str(tmp_path)
    for path in (tmp_path, state, *state.iterdir(), made.place()):
        os.chown(path, USER, USER)
    for parent in tmp_path.parents:
        if parent.stat().st_uid == os.getuid() and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o011)
    try:
        yield made
    finally:
        made.close()


def may_reach(path: Path) -> bool:
    """Say whether everybody may enter all folders above a file."""
    return all(parent.stat().st_mode & 0o001 for parent in path.resolve().parents)


# Some machines keep their Python where root alone may enter; it still has to be started.
REACHES = (
    ""
    if may_reach(Path(sys.executable))
    else "--inh-caps +dac_read_search --ambient-caps +dac_read_search"
)
# The device is for root alone on some machines, and the user has no name on any: the script makes
# another device and another table of names, in its own namespace.
AS_USER = (
    'mknod -m 666 "$1/fuse" c 10 229; mount --bind "$1/fuse" /dev/fuse; '
    f'{{ cat /etc/passwd; echo "somebody:x:{USER}:{USER}::/:/bin/sh"; }} > "$1/passwd"; '
    'mount --bind "$1/passwd" /etc/passwd; shift; '
    f'exec setpriv --reuid {USER} --regid {USER} --clear-groups {REACHES} sh -ceu "$@"'
)


@pytest.mark.skipif(shutil.which("fusermount3") is None, reason="needs Debian's package fuse3")
def test_an_ordinary_user_mounts_reads_and_unmounts_through_fusermount3(users_mounts):
    place = users_mounts.place()
    words = " ".join(users_mounts.command())
    script = f"""
        id -u
        {words} mount model "$1"
        cat "$1/config.json"
        sha256sum < "$1/{LARGE}"
        {words} mount list --json
        {words} umount "$1"
        ls -A "$1"
    """
    done = in_private_namespace(users_mounts, AS_USER, users_mounts.folder, script, "sh", place)
    assert done.returncode == 0, done.stderr
    user, config, digest, rest = done.stdout.split("\n", 3)
    assert int(user) == USER
    assert config == FILES["config.json"].decode().strip()
    assert digest.split()[0] == hashlib.sha256(FILES[LARGE]).hexdigest()
    (found,) = [each for each in json.loads(rest) if each["mountpoint"] == str(place)]
    assert found["state"] == "live"
    assert found["engine"] == "native"
    assert "passthrough needs root" in found["engine_reason"]
    assert users_mounts.processes() == []


@pytest.mark.skipif(shutil.which("fusermount3") is None, reason="needs Debian's package fuse3")
def test_the_mount_of_an_ordinary_user_survives_a_kill(users_mounts):
    place = users_mounts.place()
    words = " ".join(users_mounts.command())
    script = f"""
        {words} mount model "$1"
        pid=$({words} mount list --json | tr -d ' ,' | sed -n 's/^"server"://p' | grep -v null)
        exec 3< "$1/{LARGE}"
        kill -9 $pid
        sha256sum <&3
        exec 3<&-
        {words} umount "$1"
    """
    done = in_private_namespace(users_mounts, AS_USER, users_mounts.folder, script, "sh", place)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == hashlib.sha256(FILES[LARGE]).hexdigest()
    assert users_mounts.processes() == []


def test_a_mount_in_a_private_namespace_is_known_outside_but_not_seen(mounts):
    place = mounts.place()
    words = " ".join(mounts.command())
    inside = subprocess.Popen(
        [
            *PRIVATE,
            f'{words} mount model "$1"; echo ready; read line; {words} umount "$1"',
            "sh",
            place,
        ],
        env=mounts.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with inside:
        assert inside.stdout.readline() == "ready\n"
        assert list(place.iterdir()) == []
        (found,) = mounts.listed()
        assert found["state"] == "elsewhere"
        mounts.cachefs("umount", place, code=4)
        # Two namespaces, two mounts at one path: neither is in the other's way.
        mounts.mount("model")
        assert sorted(each["state"] for each in mounts.listed()) == ["elsewhere", "live"]
        mounts.cachefs("umount", place)
        inside.stdin.write("\n")
        inside.stdin.close()
        assert inside.wait(COMMAND_SECONDS) == 0, inside.stderr.read()
    assert mounts.processes() == []


def test_a_namespace_that_holds_a_copy_is_named_by_umount(mounts):
    place = mounts.mount("model")
    holder = subprocess.Popen(
        [*PRIVATE, "echo ready; exec sleep 60"], stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout.readline() == "ready\n"
        said = mounts.cachefs("umount", place).stderr
        assert "other mount namespaces" in said
        assert find_mount(place) is None
        assert len(mounts.processes()) == 2
        holder.kill()
    wait_for(lambda: mounts.processes() == [])


def test_a_mount_goes_with_the_namespace_that_it_is_in(mounts):
    place = mounts.place()
    words = " ".join(mounts.command())
    done = in_private_namespace(mounts, f'{words} mount model "$1"; cat "$1/config.json"', place)
    assert done.stdout == FILES["config.json"].decode()
    # Its processes are all that is left in it; they are told by a signal, as a service would be.
    (pid,) = {record.keeper.pid for _, record in mounts.run_folders.all()}
    os.kill(pid, 15)
    wait_for(lambda: mounts.processes() == [])
    assert list(mounts.run_folders.all()) == []


def with_helper(script: str) -> str:
    """Return a script that has our helper in a copy of /sbin that nobody else sees."""
    sbin = os.path.realpath("/sbin")
    return f"""
        mkdir "$1/sbin"
        cp -a {sbin}/mount.* "$1/sbin" 2>/dev/null || true
        ln -s {HELPER} "$1/sbin/mount.cachefs"
        mount -t overlay -o "lowerdir=$1/sbin:{sbin}" none {sbin}
        shift
        {script}
    """


needs_helper = pytest.mark.skipif(
    not HELPER.exists(), reason="needs the installed command mount.cachefs"
)


@needs_helper
def test_mount_of_the_system_mounts_through_the_helper(mounts):
    script = """
        mount -t cachefs -o "ro,umask=027,state=$CACHEFS_STATE,_netdev" cachefs://model "$1"
        findmnt -no FSTYPE,SOURCE "$1"
        stat -c %a "$1/config.json"
        cat "$1/config.json"
        umount "$1"
    """
    done = in_private_namespace(mounts, with_helper(script), mounts.folder, mounts.place())
    assert done.returncode == 0, done.stderr
    assert done.stdout == (f"fuse.cachefs cachefs://model\n440\n{FILES['config.json'].decode()}")
    wait_for(lambda: mounts.processes() == [])


@needs_helper
def test_a_line_of_fstab_mounts_all_datasets(mounts):
    fstab = mounts.folder / "fstab"
    fstab.write_text(
        f"cachefs {mounts.place()} cachefs ro,all,state={mounts.environment['CACHEFS_STATE']} 0 0\n"
    )
    script = 'mount -a -T "$2"; cat "$1/default/model/config.json"; umount "$1"'
    done = in_private_namespace(mounts, with_helper(script), mounts.folder, mounts.place(), fstab)
    assert done.returncode == 0, done.stderr
    assert done.stdout == FILES["config.json"].decode()
    wait_for(lambda: mounts.processes() == [])


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["cachefs://model", "PLACE", "-o", "frobnicate"], 1, "unknown option"),
        (["cachefs://nothing", "PLACE"], 32, "no such dataset"),
        (["cachefs://model", "PLACE", "-f", "-o", "ro"], 0, ""),
    ],
)
def test_the_helper_ends_with_the_codes_of_mount(mounts, words, code, said):
    place = mounts.place()
    done = subprocess.run(
        [sys.executable, "-m", "cachefs.cli.fstab"]
        + [str(place) if word == "PLACE" else word for word in words],
        env=mounts.environment,
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert find_mount(place) is None


@pytest.mark.parametrize(("words", "allowed"), [(("--allow-other",), True), ((), False)])
def test_another_user_gets_in_only_if_one_says_so(mounts, words, allowed):
    place = mounts.mount("model", *words)
    for parent in place.parents:
        if parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o011)
    listing = subprocess.run(
        ["setpriv", "--reuid", str(USER), "--regid", str(USER), "--clear-groups", "ls", place],
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        check=False,
    )
    assert (listing.returncode == 0) is allowed
    assert ("config.json" in listing.stdout) is allowed
