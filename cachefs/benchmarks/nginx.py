"""nginx as the origin and as the yardstick.

It serves a folder of files as plain HTTP, which is the yardstick of our own data plane, and the same
folder as an S3 bucket that can be listed: the listing is a fixed XML document beside the files, and
nginx itself does ranges, ``If-Match`` and ETags (``"<mtime>-<size>"``, both in hexadecimal), which
the listing repeats. Signatures are ignored. Each instance has a folder of its own for configuration,
logs and temporary files, an unprivileged port, and is ended by its process id.

The access log is how a scenario knows what the origin really sent: one line for each request, with
the bytes of its body.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from urllib.request import urlopen
from xml.sax.saxutils import escape

from cachefs.benchmarks.namespaces import Machine
from cachefs.errors import CacheFSError
from cachefs.ports import Closing
from cachefs.wire.http import DIGESTS_HEADER

BUCKET = "models"
"""The name of the one bucket."""

_START_SECONDS = 10.0
_LISTING = "listing.xml"
_POLL_SECONDS = 0.02
_NAMESPACE_PORT = 8000
"""Every port of a new namespace is free."""


class Nginx(Closing):
    """One nginx over one folder."""

    def __init__(
        self,
        files: Path,
        state: Path,
        *,
        machine: Machine | None = None,
        aliases: Mapping[str, Path] | None = None,
        digests: Mapping[str, str] | None = None,
    ) -> None:
        """Write the configuration and start it.

        Args:
            files: The folder that is served; its files are the bucket's objects.
            state: A folder for everything that nginx writes.
            machine: The network namespace to run in; ``None`` for loopback.
            aliases: Further paths, and which file each of them serves.
            digests: The value of the digests header, by path and range (``/path bytes=0-9``): with
                these, it answers a reader as a worker does.

        Raises:
            CacheFSError: nginx is not installed, or did not start.
        """
        program = find_nginx()
        if program is None:
            raise CacheFSError("nginx is not installed", hint="apt-get install nginx-light")
        self.address = machine.address if machine else "127.0.0.1"
        self.port = _NAMESPACE_PORT if machine else free_port()
        self._state = state
        self._log = state / "access.log"
        shutil.rmtree(state, ignore_errors=True)
        state.mkdir(parents=True)
        (state / _LISTING).write_text(listing(files))
        maps = f"{_map('$uri', 'alias', aliases)}{_map('$uri $http_range', 'digests', digests)}"
        (state / "maps.conf").write_text(maps)
        configuration = state / "nginx.conf"
        configuration.write_text(
            _configuration(files.resolve(), state.resolve(), f"{self.address}:{self.port}")
        )
        prefix = machine.command_prefix if machine else ()
        words = ("-p", state.resolve(), "-c", configuration.resolve())
        command = [*prefix, program, *map(str, words), "-e", str((state / "error.log").resolve())]
        self.process = subprocess.Popen(command)
        self._wait_until_it_serves()

    def _wait_until_it_serves(self) -> None:
        deadline = time.perf_counter() + _START_SECONDS
        while time.perf_counter() < deadline and self.process.poll() is None:
            try:
                with urlopen(f"{self.url}/healthz", timeout=1):  # noqa: S310 - our own URL
                    return
            except OSError:
                time.sleep(_POLL_SECONDS)  # noqa: TID251 - another program is waited for
        errors = self._state / "error.log"
        self.close()
        said = errors.read_text()[-500:] if errors.exists() else ""
        raise CacheFSError("nginx did not start", hint=said)

    @property
    def url(self) -> str:
        """The URL of the server: an S3 endpoint."""
        return f"http://{self.address}:{self.port}"

    def processes(self) -> list[int]:
        """Return the ids of the main process and its workers."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        try:
            return [self.process.pid, *map(int, children.read_text().split())]
        except OSError:
            return [self.process.pid]

    def sent_bytes(self) -> int:
        """Return the bytes of the bodies of all objects sent so far, listings left out."""
        total = 0
        for line in self._log.read_text().splitlines():
            method, path, status, size = line.split(" ")[:4]
            if method == "GET" and status in ("200", "206") and _is_object(path):
                total += int(size)
        return total

    def requests(self) -> int:
        """Return how many requests there were so far."""
        return len(self._log.read_text().splitlines())

    def close(self) -> None:
        """End it."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(_START_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def find_nginx() -> str | None:
    """Return where nginx is; it is often not on the path of those who are not root."""
    return shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


def free_port() -> int:
    """Return a port of loopback that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def etag(path: Path) -> str:
    """Return the ETag that nginx gives a file, without its quotes."""
    status = path.stat()
    return f"{int(status.st_mtime):x}-{status.st_size:x}"


def listing(folder: Path) -> str:
    """Return the answer to ListObjectsV2 for every file below a folder."""
    contents = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        status = path.stat()
        modified = datetime.fromtimestamp(int(status.st_mtime), UTC)
        contents.append(
            f"<Contents><Key>{escape(str(path.relative_to(folder)))}</Key>"
            f"<LastModified>{modified:%Y-%m-%dT%H:%M:%S.000Z}</LastModified>"
            f"<ETag>&quot;{etag(path)}&quot;</ETag><Size>{status.st_size}</Size>"
            "<StorageClass>STANDARD</StorageClass></Contents>"
        )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>{BUCKET}</Name><Prefix></Prefix><KeyCount>{len(contents)}</KeyCount>"
        "<MaxKeys>1000000</MaxKeys><IsTruncated>false</IsTruncated>"
        f"{''.join(contents)}</ListBucketResult>"
    )


def _is_object(path: str) -> bool:
    return path.startswith(f"/{BUCKET}/") and not path.startswith(f"/{BUCKET}/?")


def _map(key: str, name: str, entries: Mapping[str, object] | None) -> str:
    lines = "".join(f'"{key}" "{value}";\n' for key, value in (entries or {}).items())
    return f'map "{key}" ${name} {{\n{lines}default "";\n}}\n'


def _configuration(files: Path, state: Path, address: str) -> str:
    # The master process must be root to start as root, and then its workers would be `nobody`,
    # who may not read our folders.
    user = "user root;" if os.geteuid() == 0 else ""
    return f"""
{user}
daemon off;
worker_processes 2;
pid {state}/nginx.pid;
error_log {state}/error.log warn;
worker_rlimit_nofile 4096;
events {{ worker_connections 1024; }}
http {{
    log_format bytes '$request_method $request_uri $status $body_bytes_sent';
    access_log {state}/access.log bytes;
    client_body_temp_path {state}/body;
    proxy_temp_path {state}/proxy;
    fastcgi_temp_path {state}/fastcgi;
    uwsgi_temp_path {state}/uwsgi;
    scgi_temp_path {state}/scgi;
    default_type application/octet-stream;
    sendfile on;
    tcp_nopush on;
    tcp_nodelay on;
    keepalive_requests 1000000;
    keepalive_timeout 300s;
    map_hash_bucket_size 256;
    map_hash_max_size 65536;
    include {state}/maps.conf;
    server {{
        listen {address} backlog=1024;
        location = /healthz {{ access_log off; return 200; }}
        location = /{BUCKET} {{ default_type application/xml; alias {state}/{_LISTING}; }}
        location = /{BUCKET}/ {{ default_type application/xml; try_files /{_LISTING} =404; root {state}; }}
        location /{BUCKET}/ {{ alias {files}/; }}
        location ~ ^/v1/files/ {{
            add_header {DIGESTS_HEADER} $digests;
            alias $alias;
        }}
    }}
}}
"""
