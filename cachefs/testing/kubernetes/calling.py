"""Calling a webhook: HTTPS to its URL or its service, with the certificate verified against ``caBundle``."""

import base64
import http.client
import json
import socket
import ssl
from collections.abc import Mapping
from urllib.parse import urlsplit

from cachefs.testing.kubernetes.documents import Document

Services = Mapping[tuple[str, str], tuple[str, int]]
"""Where services are to be found: namespace and name to host and port."""


class CallError(Exception):
    """No answer of use came."""


def call(client: Document, review: Document, services: Services, seconds: int) -> Document:
    """Send a review to a webhook, and return the review that it answers.

    Raises:
        CallError: it cannot be reached or verified in time, or answers anything else.
    """
    shown, path, address, name = _address(client, services)
    try:
        with socket.create_connection(address, timeout=seconds) as plain:
            bundle = base64.b64decode(client.get("caBundle") or "").decode()
            context = ssl.create_default_context(cadata=bundle or None)
            with context.wrap_socket(plain, server_hostname=name) as secured:
                connection = http.client.HTTPConnection(name, timeout=seconds)
                connection.sock = secured
                body = json.dumps(review).encode()
                headers = {
                    "Content-Type": "application/json",
                    "User-Agent": "kube-apiserver-admission",
                }
                connection.request("POST", f"{path}?timeout={seconds}s", body, headers)
                answer = connection.getresponse()
                text = answer.read()
    except TimeoutError as error:
        raise CallError(f'Post "{shown}": context deadline exceeded') from error
    except (OSError, http.client.HTTPException) as error:
        raise CallError(f'Post "{shown}": {error}') from error
    if answer.status != 200:
        raise CallError(f"the server responded with the status code {answer.status}")
    return _review(text, review)


def _address(client: Document, services: Services) -> tuple[str, str, tuple[str, int], str]:
    """Return what is shown, the path, where to connect, and the name to verify."""
    service = client.get("service")
    if service is None:
        parts = urlsplit(client["url"])
        host = parts.hostname or ""
        return client["url"], parts.path or "/", (host, parts.port or 443), host
    space, name = service["namespace"], service["name"]
    host, path = f"{name}.{space}.svc", service.get("path") or "/"
    found = services.get((space, name))
    if found is None:
        raise CallError(f'service "{name}" not found: no endpoints in namespace "{space}"')
    return f"https://{host}:{service.get('port', 443)}{path}", path, found, host


def _review(text: bytes, asked: Document) -> Document:
    try:
        review = json.loads(text)
        response: Document = review["response"]
    except (ValueError, KeyError, TypeError) as error:
        raise CallError(f"couldn't get an AdmissionReview from the response: {error}") from error
    if (review.get("apiVersion"), review.get("kind")) != (asked["apiVersion"], asked["kind"]):
        raise CallError(
            f"expected webhook response of {asked['apiVersion']}, Kind={asked['kind']}, "
            f"got {review.get('apiVersion')}, Kind={review.get('kind')}"
        )
    if response.get("uid") != asked["request"]["uid"]:
        raise CallError(
            f"expected response.uid={asked['request']['uid']!r}, got {response.get('uid')!r}"
        )
    return response
