"""S3 clients of other people read a dataset without knowing what it is."""

import io
import shutil
import subprocess
import urllib.request

import pytest
from botocore.exceptions import ClientError

from tests.integration.gateway.conftest import FILES

pytestmark = pytest.mark.slow


def code_of(call):
    with pytest.raises(ClientError) as caught:
        call()
    return caught.value.response["Error"]["Code"]


@pytest.mark.parametrize("style", ["path", "virtual"])
def test_boto3_lists_and_reads(site, style):
    s3 = site.client(s3={"addressing_style": "path"})
    if style == "virtual":
        # A host name before localhost may not resolve here; the Host header is what counts.
        s3.meta.events.register("before-sign.s3", _to_virtual_host)
    assert [each["Name"] for each in s3.list_buckets()["Buckets"]] == ["default", "team"]
    pages = s3.get_paginator("list_objects_v2").paginate(
        Bucket="default", Prefix="m/", PaginationConfig={"PageSize": 2}
    )
    keys = [each["Key"] for page in pages for each in page["Contents"]]
    assert keys == [f"m/{path}" for path in sorted(FILES)]
    for path, content in FILES.items():
        answer = s3.get_object(Bucket="default", Key=f"m/{path}")
        assert answer["Body"].read() == content
        head = s3.head_object(Bucket="default", Key=f"m/{path}")
        assert (head["ContentLength"], head["ETag"]) == (len(content), answer["ETag"])
    s3.close()


def _to_virtual_host(request, **_):
    port = request.url.split("/")[2].partition(":")[2]
    path = request.url.partition(f":{port}")[2]
    if path.startswith("/default/"):
        request.url = request.url.replace("/default/", "/", 1)
        request.headers["Host"] = f"default.localhost:{port}"


def test_boto3_copies_a_large_object_in_parallel_ranges(site):
    from boto3.s3.transfer import TransferConfig  # noqa: PLC0415 - it takes a moment

    s3 = site.client()
    into = io.BytesIO()
    config = TransferConfig(multipart_threshold=1, multipart_chunksize=300_001, max_concurrency=8)
    s3.download_fileobj("default", "m/weights.bin", into, Config=config)
    assert into.getvalue() == FILES["weights.bin"]
    s3.close()


def test_boto3_is_told_what_is_wrong(site):
    s3 = site.client()
    etag = s3.head_object(Bucket="default", Key="m/empty")["ETag"]
    for call, code in (
        (lambda: s3.get_object(Bucket="default", Key="m/none"), "NoSuchKey"),
        (lambda: s3.get_object(Bucket="none", Key="m/none"), "NoSuchBucket"),
        (lambda: s3.list_objects_v2(Bucket="none"), "NoSuchBucket"),
        (lambda: s3.head_bucket(Bucket="none"), "404"),
        (lambda: s3.get_object(Bucket="default", Key="m/empty", IfNoneMatch=etag), "304"),
        (lambda: s3.get_object(Bucket="default", Key="m/empty", IfMatch="x"), "PreconditionFailed"),
        (lambda: s3.get_object(Bucket="default", Key="m/empty", Range="bytes=9-"), "InvalidRange"),
        (lambda: s3.put_object(Bucket="default", Key="m/x", Body=b"x" * 10**6), "MethodNotAllowed"),
        (lambda: s3.delete_object(Bucket="default", Key="m/empty"), "MethodNotAllowed"),
        (lambda: s3.create_bucket(Bucket="new"), "MethodNotAllowed"),
        (lambda: s3.get_object_acl(Bucket="default", Key="m/empty"), "NotImplemented"),
    ):
        assert code_of(call) == code
    s3.close()


def test_a_version_is_named_in_the_key(site):
    s3 = site.client()
    version = s3.head_object(Bucket="default", Key="m/empty")["Metadata"]["cachefs-version"]
    key = f"m@{version}/config.json"
    assert s3.get_object(Bucket="default", Key=key)["Body"].read() == FILES["config.json"]
    listed = s3.list_objects_v2(Bucket="default", Prefix=f"m@{version[:8]}/", Delimiter="/")
    assert [each["Prefix"] for each in listed["CommonPrefixes"]] == [f"m@{version[:8]}/sub/"]
    s3.close()


def test_a_presigned_url_needs_nothing_else(site):
    s3 = site.client()
    url = s3.generate_presigned_url(
        "get_object",
        Params={"Bucket": "default", "Key": "m/config.json", "ResponseContentType": "text/x"},
        ExpiresIn=60,
    )
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - our own URL
        assert answer.read() == FILES["config.json"]
        assert answer.headers["Content-Type"] == "text/x"
    s3.close()


def test_obstore_lists_and_reads(site):
    import obstore  # noqa: PLC0415 - it takes a moment
    from obstore.store import S3Store  # noqa: PLC0415 - likewise

    store = S3Store(
        "default",
        prefix="m",
        endpoint=site.s3,
        access_key_id=site.key.id,
        secret_access_key=site.key.secret.reveal(),
        region="us-east-2",
        client_options={"allow_http": True},
    )
    listed = {each["path"]: each["size"] for batch in obstore.list(store) for each in batch}
    assert listed == {path: len(content) for path, content in FILES.items()}
    for path, content in FILES.items():
        assert bytes(obstore.get(store, path).bytes()) == content
    ranges = obstore.get_ranges(store, "weights.bin", starts=[0, 10**6], ends=[10, 10**6 + 10])
    assert [bytes(each) for each in ranges] == [
        FILES["weights.bin"][:10],
        FILES["weights.bin"][10**6 : 10**6 + 10],
    ]


def test_s3fs_lists_and_reads(site, tmp_path):
    import s3fs  # noqa: PLC0415 - it takes a moment

    s3 = s3fs.S3FileSystem(
        key=site.key.id,
        secret=site.key.secret.reveal(),
        endpoint_url=site.s3,
        client_kwargs={"region_name": "us-east-2"},
        skip_instance_cache=True,
    )
    assert sorted(s3.ls("default")) == ["default/m"]
    assert s3.find("default/m") == [f"default/m/{path}" for path in sorted(FILES)]
    assert s3.isdir("default/m/sub/deep")
    assert not s3.exists("default/m/none")
    with s3.open("default/m/weights.bin") as file:
        file.seek(-9, io.SEEK_END)
        assert file.read() == FILES["weights.bin"][-9:]
    s3.get("default/m/", str(tmp_path / "got"), recursive=True)
    for path, content in FILES.items():
        assert (tmp_path / "got" / path).read_bytes() == content


def test_rclone_copies_and_compares(site, tmp_path):
    if shutil.which("rclone") is None:
        pytest.skip("rclone is not installed")
    environment = {**site.environment(), "RCLONE_CONFIG": "/dev/null"}
    remote = f":s3,provider=Other,env_auth=true,endpoint='{site.s3}',region=us-east-2:default/m"
    for words in (
        ("copy", remote, str(tmp_path / "got")),
        ("check", remote, str(site.folder), "--download"),
    ):
        done = subprocess.run(
            ["rclone", *words],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    for path, content in FILES.items():
        assert (tmp_path / "got" / path).read_bytes() == content


@pytest.mark.frameworks
def test_the_run_ai_streamer_reads_safetensors(site, tmp_path):
    pytest.importorskip("runai_model_streamer")
    import sys  # noqa: PLC0415 - only where there is such a program

    program = """
from runai_model_streamer import SafetensorsStreamer, list_safetensors
from safetensors.torch import save_file
import torch, sys
(path,) = list_safetensors("s3://default/tensors/")
with SafetensorsStreamer() as streamer:
    streamer.stream_files([path])
    for name, tensor in streamer.get_tensors():
        print(name, float(tensor.sum()))
"""
    from safetensors.torch import save_file  # noqa: PLC0415 - likewise
    from torch import ones  # noqa: PLC0415 - likewise

    (tmp_path / "data").mkdir()
    save_file({"a": ones(100, 1000)}, tmp_path / "data" / "model.safetensors")
    site.system.add("tensors", f"file://{tmp_path}/data")
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={
            **site.environment(),
            "RUNAI_STREAMER_S3_ENDPOINT": site.s3,
            "RUNAI_STREAMER_S3_USE_VIRTUAL_ADDRESSING": "0",
        },
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "a 100000.0"
