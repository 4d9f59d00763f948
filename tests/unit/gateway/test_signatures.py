"""Signatures: the published examples, what a real client signs, and all that must not pass."""

from datetime import UTC, datetime
from urllib.parse import quote

import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given, settings
from hypothesis import strategies as st

from cachefs.config.secrets import Secret
from cachefs.gateway.credentials import AccessKey, access_key
from cachefs.gateway.s3.refusals import Refusal
from cachefs.gateway.s3.signatures import SKEW_SECONDS, check_signature
from tests.unit.gateway.shelves import ask

# The key, the moment and the signatures are those of the examples in Amazon's documentation of the
# S3 API ("Authenticating Requests: Using the Authorization Header" and "Using Query Parameters").
EXAMPLE = AccessKey("AKIAIOSFODNN7EXAMPLE", Secret("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"))
EXAMPLE_AT = datetime(2013, 5, 24, tzinfo=UTC).timestamp()
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
KEY = access_key(Secret("token-of-a-test"))


def example(target, signature, signed="host;x-amz-content-sha256;x-amz-date", **headers):
    return ask(
        "GET",
        target,
        host="examplebucket.s3.amazonaws.com",
        x_amz_content_sha256=EMPTY,
        x_amz_date="20130524T000000Z",
        authorization="AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/"
        f"aws4_request,SignedHeaders={signed},Signature={signature}",
        **headers,
    )


EXAMPLES = {
    "an object": example(
        "/test.txt",
        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        "host;range;x-amz-content-sha256;x-amz-date",
        range="bytes=0-9",
    ),
    "a parameter without a value": example(
        "/?lifecycle", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"
    ),
    "a listing": example(
        "/?max-keys=2&prefix=J",
        "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
    ),
}
PRESIGNED = ask(
    "GET",
    "/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524"
    "%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400"
    "&X-Amz-SignedHeaders=host&X-Amz-Signature="
    "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404",
    host="examplebucket.s3.amazonaws.com",
)


def check(request, key=KEY, *, now, anonymous=False):
    check_signature(request, key, now=now, anonymous=anonymous)


def refused(request, key=KEY, *, now, anonymous=False):
    with pytest.raises(Refusal) as caught:
        check(request, key, now=now, anonymous=anonymous)
    return caught.value.code


def signed(target, *, method="GET", key=KEY, region="eu-west-3", presigned=False, **headers):
    """Return a request as botocore signs it now, and the moment."""
    made = AWSRequest(method, f"http://127.0.0.1:9000{target}", headers=headers)
    made.context["payload_signing_enabled"] = False
    made.context["client_config"] = None
    credentials = Credentials(key.id, key.secret.reveal())
    if presigned:
        S3SigV4QueryAuth(credentials, "s3", region, expires=60).add_auth(made)
    else:
        S3SigV4Auth(credentials, "s3", region).add_auth(made)
    sent = {name.lower().replace("-", "_"): value for name, value in made.headers.items()}
    target = made.prepare().url.removeprefix("http://127.0.0.1:9000")
    return ask(method, target, **sent), datetime.now(UTC).timestamp()


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_published_examples_pass(name):
    check(EXAMPLES[name], EXAMPLE, now=EXAMPLE_AT)


def test_the_published_presigned_url_passes_until_it_expires():
    check(PRESIGNED, EXAMPLE, now=EXAMPLE_AT)
    check(PRESIGNED, EXAMPLE, now=EXAMPLE_AT + 86400)
    assert refused(PRESIGNED, EXAMPLE, now=EXAMPLE_AT + 86401) == "AccessDenied"
    assert refused(PRESIGNED, EXAMPLE, now=EXAMPLE_AT - SKEW_SECONDS - 1) == "AccessDenied"


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_signature_is_of_its_time_and_key(name):
    request = EXAMPLES[name]
    check(request, EXAMPLE, now=EXAMPLE_AT + SKEW_SECONDS)
    check(request, EXAMPLE, now=EXAMPLE_AT - SKEW_SECONDS)
    assert refused(request, EXAMPLE, now=EXAMPLE_AT + SKEW_SECONDS + 1) == "RequestTimeTooSkewed"
    assert refused(request, EXAMPLE, now=EXAMPLE_AT - SKEW_SECONDS - 1) == "RequestTimeTooSkewed"
    assert refused(request, now=EXAMPLE_AT) == "InvalidAccessKeyId"
    other = AccessKey(EXAMPLE.id, KEY.secret)
    assert refused(request, other, now=EXAMPLE_AT) == "SignatureDoesNotMatch"


@settings(deadline=None)
@given(
    st.text(min_size=1, max_size=20),
    st.dictionaries(
        st.text("abcXYZ-_.~ +&=%/é", min_size=1, max_size=5), st.text(max_size=8), max_size=3
    ),
    st.booleans(),
)
def test_what_botocore_signs_passes(key, parameters, presigned):
    path = quote(f"/default/m/{key}", safe="/~")
    query = "&".join(
        f"{quote(name, safe='~')}={quote(value, safe='~')}" for name, value in parameters.items()
    )
    request, now = signed(f"{path}?{query}" if query else path, presigned=presigned)
    check(request, now=now)


@pytest.mark.parametrize("presigned", [False, True])
def test_whatever_is_changed_after_signing_is_noticed(presigned):
    request, now = signed("/default/m/a?prefix=x", presigned=presigned)
    check(request, now=now)
    sent = {name.replace("-", "_"): value for name, value in request.headers.items()}
    for method, target, headers in (
        ("HEAD", request.target, sent),
        ("GET", request.target.replace("/m/a", "/m/b"), sent),
        ("GET", request.target.replace("prefix=x", "prefix=y"), sent),
        ("GET", request.target + "&versionId=null", sent),
        ("GET", request.target, sent | {"host": "elsewhere"}),
    ):
        changed = ask(method, target, **headers)
        assert refused(changed, now=now) == "SignatureDoesNotMatch"


def test_who_does_not_sign_is_let_in_only_where_anybody_is():
    request = ask("GET", "/default/m/a")
    assert refused(request, now=0) == "AccessDenied"
    check(request, now=0, anonymous=True)
    wrong = AccessKey(KEY.id, Secret("wrong"))
    signed_wrongly, now = signed("/default/m/a", key=wrong)
    assert refused(signed_wrongly, now=now, anonymous=True) == "SignatureDoesNotMatch"


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"authorization": "AWS KEY:signature"}, "InvalidRequest"),
        ({"authorization": "Bearer x"}, "InvalidRequest"),
        ({"authorization": "AWS4-HMAC-SHA256 nonsense"}, "AuthorizationHeaderMalformed"),
        ({"authorization": "AWS4-HMAC-SHA256 " + "x" * 9000}, "AuthorizationHeaderMalformed"),
        ({"x_amz_content_sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"}, "XAmzContentSHA256Mismatch"),
        ({"x_amz_content_sha256": "0" * 64}, "XAmzContentSHA256Mismatch"),
        ({"x_amz_date": "yesterday"}, "AccessDenied"),
        ({"x_amz_date": "20139999T000000Z"}, "AccessDenied"),
        ({"x_amz_date": "20130525T000000Z"}, "AuthorizationHeaderMalformed"),
    ],
)  # fmt: skip
def test_claims_that_make_no_sense_are_refused_by_name(headers, code):
    request = EXAMPLES["an object"]
    sent = {name.replace("-", "_"): value for name, value in request.headers.items()} | headers
    assert refused(ask("GET", "/test.txt", **sent), EXAMPLE, now=EXAMPLE_AT) == code


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("HMAC-SHA256&", "ECDSA-P256-SHA256&"),
        ("X-Amz-Expires=86400", "X-Amz-Expires=604801"),
        ("X-Amz-Expires=86400", "X-Amz-Expires=-1"),
        ("X-Amz-Expires=86400", "X-Amz-Expires=0"),
        ("X-Amz-Expires=86400&", ""),
        ("%2Fs3%2F", "%2Fiam%2F"),
        ("X-Amz-Date=20130524", "X-Amz-Date=20130525"),
        ("Signature=aeee", "Signature=zzzz"),
    ],
)
def test_a_presigned_url_that_makes_no_sense_is_refused(old, new):
    request = ask("GET", PRESIGNED.target.replace(old, new), host=PRESIGNED.headers["host"])
    code = refused(request, EXAMPLE, now=EXAMPLE_AT)
    assert code == "AuthorizationQueryParametersError"


def test_the_host_must_be_signed_and_only_one_way_of_signing_be_used():
    target = PRESIGNED.target.replace("SignedHeaders=host", "SignedHeaders=range")
    assert refused(ask("GET", target), EXAMPLE, now=EXAMPLE_AT) == "AccessDenied"
    both = ask(
        "GET", PRESIGNED.target, authorization=EXAMPLES["an object"].headers["authorization"]
    )
    assert refused(both, EXAMPLE, now=EXAMPLE_AT) == "InvalidArgument"
    old = ask("GET", "/test.txt?AWSAccessKeyId=x&Signature=y&Expires=9")
    assert refused(old, EXAMPLE, now=EXAMPLE_AT) == "InvalidRequest"
