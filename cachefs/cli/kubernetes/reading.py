"""``cachefs k8s reader``: a token for a namespace's pods, that opens reading and nothing else."""

import base64
import binascii
from typing import Annotated

import typer

from cachefs.cli.kubernetes import options
from cachefs.cli.rendering import say
from cachefs.errors import ConfigError, NotKnownError

_SECRET = "cachefs-reader"  # noqa: S105 - a secret's name


def reader(
    reading: Annotated[str, typer.Argument(metavar="NAMESPACE", help="Whose pods shall read.")],
    *,
    datasets: Annotated[
        list[str] | None,
        typer.Option(
            "--dataset", metavar="NS/NAME", help="Also this one; NS/* for all of another."
        ),
    ] = None,
    namespace: options.Namespace = "cachefs",
    kubeconfig: options.Kubeconfig = None,
) -> None:
    """Give a namespace the secret that injected containers read with.

    Its token opens the reading of the namespace's datasets, and of those that are named, and nothing
    else. It is made of the installation's own token, which whoever runs this must be allowed to read.
    """
    from cachefs.config.reading import reading_token
    from cachefs.config.secrets import Secret
    from cachefs.k8s import kinds
    from cachefs.k8s.installation import check_name
    from cachefs.k8s.manifests.parts import TOKEN_SECRET, headed

    check_name(reading)
    cluster = options.connect(kubeconfig)
    held = cluster.get(kinds.SECRETS, TOKEN_SECRET, namespace)
    if held is None:
        raise NotKnownError("there is no token", subject=f"{namespace}/{TOKEN_SECRET}")
    try:
        token = base64.b64decode((held.get("data") or {}).get("token", ""), validate=True)
        text = token.decode("ascii").strip()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise ConfigError("not a token", subject=f"{namespace}/{TOKEN_SECRET}") from error
    made = reading_token(Secret(text), [f"{reading}/*", *(datasets or ())])
    head = headed("v1", "Secret", _SECRET, "reader", reading)
    data = {"token": base64.b64encode(made.reveal().encode()).decode()}
    try:
        cluster.apply({**head, "type": "Opaque", "data": data})
    except NotKnownError as error:
        raise NotKnownError(
            f"no namespace {reading}", hint=f"kubectl create namespace {reading}"
        ) from error
    say(f"made Secret {reading}/{_SECRET}")
