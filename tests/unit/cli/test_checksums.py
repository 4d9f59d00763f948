"""Checksum files and options, as people write them."""

import pytest

from cachefs.cli.checksums import parse_option, read_checksums
from cachefs.errors import ConfigError

SHA256 = "a" * 64


def read(tmp_path, text):
    file = tmp_path / "SHA256SUMS"
    file.write_text(text)
    return read_checksums(file)


def test_lines_of_sha256sum_are_read_in_both_of_its_modes(tmp_path):
    text = f"{SHA256}  model.safetensors\n{SHA256.upper()} *sub/with two  spaces.bin\n\n# end\n"
    assert read(tmp_path, text) == {
        "model.safetensors": f"sha256:{SHA256}",
        "sub/with two  spaces.bin": f"sha256:{SHA256}",
    }


def test_the_algorithm_is_known_by_the_length(tmp_path):
    text = "".join(f"{'b' * digits}  f{digits}\n" for digits in (32, 40, 64, 128))
    algorithms = [digest.split(":")[0] for digest in read(tmp_path, text).values()]
    assert algorithms == ["md5", "sha1", "sha256", "sha512"]


def test_names_that_sha256sum_escapes_are_read(tmp_path):
    assert read(tmp_path, f"\\{SHA256}  a\\nb\\\\n\n") == {"a\nb\\n": f"sha256:{SHA256}"}


def test_a_leading_dot_is_the_folder_itself(tmp_path):
    assert list(read(tmp_path, f"{SHA256}  ./a/b\n")) == ["a/b"]


@pytest.mark.parametrize("line", ["nonsense", "abc  short", f"{SHA256} one-space"])
def test_a_line_that_is_something_else_is_named(tmp_path, line):
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, f"{SHA256}  good\n{line}\n")
    assert caught.value.subject.endswith("SHA256SUMS:2")


@pytest.mark.parametrize("path", ["../up", "/absolute", "a//b"])
def test_a_path_that_leaves_the_dataset_is_refused(tmp_path, path):
    with pytest.raises(ConfigError, match="in file name"):
        read(tmp_path, f"{SHA256}  {path}\n")


def test_a_missing_file_is_an_error_that_names_it(tmp_path):
    with pytest.raises(ConfigError, match="cannot read"):
        read_checksums(tmp_path / "nothing")


def test_an_option_is_cut_at_its_first_equals_sign():
    assert parse_option("endpoint_url=http://h/?a=b") == ("endpoint_url", "http://h/?a=b")


@pytest.mark.parametrize("text", ["", "key", "=value"])
def test_an_option_without_key_or_equals_sign_is_refused(text):
    with pytest.raises(ConfigError, match="not an option"):
        parse_option(text)
