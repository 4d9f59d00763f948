"""The keys of the endpoints follow from the cluster's token, and do not lead back to it."""

import re

from cachefs.config.secrets import Secret
from cachefs.gateway.credentials import access_key, hub_token, write_keys

TOKEN = Secret("the-token-of-a-cluster")


def test_keys_follow_from_the_token_and_look_as_clients_expect():
    key = access_key(TOKEN)
    assert re.fullmatch(r"[A-Z0-9]{20}", key.id)
    assert re.fullmatch(r"[A-Za-z0-9+/]{40}", key.secret.reveal())
    assert re.fullmatch(r"hf_[a-z0-9]{37,}", hub_token(TOKEN).reveal())
    again, other = access_key(Secret(TOKEN.reveal())), access_key(Secret("another"))
    assert (again.id, again.secret.reveal()) == (key.id, key.secret.reveal())
    assert other.id != key.id
    assert other.secret.reveal() != key.secret.reveal()


def test_no_key_shows_the_token_or_itself():
    key = access_key(TOKEN)
    assert key.secret.reveal() not in repr(key)
    for shown in (key.id, key.secret.reveal(), hub_token(TOKEN).reveal()):
        assert TOKEN.reveal() not in shown


def test_keys_are_written_for_their_owner_only(tmp_path):
    folder = tmp_path / "endpoints"
    write_keys(folder, Secret("old"))
    write_keys(folder, TOKEN)
    assert folder.stat().st_mode & 0o777 == 0o700
    for file in folder.iterdir():
        assert file.stat().st_mode & 0o777 == 0o600
    assert sorted(file.name for file in folder.iterdir()) == ["hub-token", "s3-credentials"]
    assert hub_token(TOKEN).reveal() in (folder / "hub-token").read_text()
    assert access_key(TOKEN).secret.reveal() in (folder / "s3-credentials").read_text()
