"""``cachefs endpoints``: how programs that know S3 or the Hugging Face Hub read from the cache.

What is printed can be pasted into a shell, or evaluated. It names files with keys, not the keys, as
long as nobody asks for them.
"""

import os
import shlex
from collections.abc import Mapping
from typing import Annotated

import typer

from cachefs.cli import options
from cachefs.cli.rendering import print_json
from cachefs.config.discovery import ENDPOINTS_FOLDER, Endpoint
from cachefs.errors import NotKnownError


def endpoints(
    state: options.State = None,
    show_keys: Annotated[
        bool,
        typer.Option(
            "--show-keys", help="Print the keys themselves, for programs that read no files."
        ),
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Show the environment by which S3 and Hugging Face programs read from the cache.

    `eval "$(cachefs endpoints)"` sets it in a shell.
    """
    from cachefs.config.discovery import discover

    endpoint = discover(os.environ, state=state)
    variables = environment_of(endpoint, show_keys=show_keys)
    if not variables:
        raise NotKnownError(
            "no endpoints are known here", hint="`cachefs up --gateway` starts them with the system"
        )
    if as_json:
        print_json(variables)
        return
    for line in lines_of(variables):
        print(line)


def named(gateway: Mapping[str, str]) -> str:
    """Return in one line where the endpoints are, by their addresses."""
    return (
        f"S3 at http://{gateway['s3']}, Hugging Face Hub at http://{gateway['hub']}; "
        "`cachefs endpoints` shows how to use them"
    )


def environment_of(endpoint: Endpoint, *, show_keys: bool = False) -> dict[str, str]:
    """Return the environment for a system's endpoints; empty if it has none."""
    from cachefs.gateway.credentials import HUB_FILE, REGION, S3_FILE, access_key, hub_token

    if not endpoint.gateway or endpoint.state is None:
        return {}
    folder = endpoint.state / ENDPOINTS_FOLDER
    s3 = {"AWS_ENDPOINT_URL": f"http://{endpoint.gateway['s3']}"}
    s3 |= {"AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION}  # boto3 knows only the second
    hub = {"HF_ENDPOINT": f"http://{endpoint.gateway['hub']}", "HF_HUB_DISABLE_XET": "1"}
    if show_keys:
        key = access_key(endpoint.token)
        s3 |= {"AWS_ACCESS_KEY_ID": key.id, "AWS_SECRET_ACCESS_KEY": key.secret.reveal()}
        hub |= {"HF_TOKEN": hub_token(endpoint.token).reveal()}
    else:
        s3 |= {"AWS_SHARED_CREDENTIALS_FILE": str(folder / S3_FILE)}
        hub |= {"HF_TOKEN_PATH": str(folder / HUB_FILE)}
    return s3 | hub


def lines_of(variables: dict[str, str]) -> list[str]:
    """Return what sets an environment in a shell."""
    return [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
