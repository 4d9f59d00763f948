"""The story that the demo tells, chapter by chapter: what is done, and what is seen."""

import hashlib
import json
import mmap
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from bench.demo.model import SentenceEncoder, load_safetensors
from bench.demo.origin import BUCKET, S3
from bench.demo.system import System
from bench.demo.telling import Measured, chapter, command, table, tell
from cachefs.cli.session import Session
from cachefs.config.units import format_duration, format_size
from cachefs.fuse.engines.choice import look_around
from cachefs.transport.runtime import ThreadRuntime

DATASET = "minilm"
WEIGHTS = "model.safetensors"
VOCABULARY = "vocab.txt"
_PUBLISH = "dataflow/examples/publish.yaml"
_REPLICAS = 6
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
        self._nearness: list[float] = []

    def run(self) -> None:
        """Tell it."""
        self._upload()
        chapter(3, "A coordinator and three workers")
        with self._system.up("--workers", "3", "--disk", "2GiB"):
            self._add_and_warm()
            self._compare()
            self._kill()
            self._compute()
            self._mount()
            self._measure()
            self._hint()
            self._publish()
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
        self._nearness = _nearness(memoryview(contents[WEIGHTS]), bytes(contents[VOCABULARY]))
        tell(f"how near in meaning to “{_SENTENCE}”?")
        for other, near in zip(_OTHERS, self._nearness, strict=True):
            tell(f"  {near:5.2f}  {other}")

    def _mount(self) -> None:
        chapter(8, "Mount it, map the weights, and kill the mount's server")
        reason = _why_no_mount()
        if reason:
            tell(f"left out: {reason}")
            return
        with self._system.mounted(DATASET) as folder:
            self._compute_mapped(folder)
            self._check({path: (folder / path).read_bytes() for path in self._files})
            tell("every file of the mount, read again: every sha256 is the source's")

    def _compute_mapped(self, folder: Path) -> None:
        """Map the weights, kill who serves them, and compute; nothing stays mapped."""
        server = self._system.mount_server()
        with (folder / WEIGHTS).open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        tell(f"{WEIGHTS} is mapped: {format_size(len(mapped))}")
        command(f"kill -9 {server}", "it serves the mount")
        os.kill(server, signal.SIGKILL)
        nearness = _nearness(memoryview(mapped), (folder / VOCABULARY).read_bytes())
        if nearness != self._nearness:
            raise RuntimeError("the mapped weights are others")
        tell("computed again from the mapping: the same numbers; another server has taken over")

    def _measure(self) -> None:
        chapter(9, "How fast?")
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

    def _hint(self) -> None:
        chapter(10, "Ask where a job would be ready soonest")
        self._system.run("hint", DATASET, "--explain")
        self._system.run("hint", DATASET, "--format", "slurm", note="the same for a scheduler")

    def _publish(self) -> None:
        chapter(11, "Publish it with one document")
        tell(f"{_PUBLISH} scales out, prefetches, waits, starts replicas in batches, tests one,")
        tell("and gives the workers back")
        self._system.run("evict", DATASET, note="so that there is something to prefetch")
        program = ["env", f"MODEL={DATASET}", f"PYTHONPATH={Path.cwd()}", sys.executable]
        program += ["-m", "bench.demo.serving"]
        given = {
            "model": DATASET,
            "workers": "4",
            "replicas": str(_REPLICAS),
            "batch": "[1, 3]",
            "serve": json.dumps([*program, "replica"]),
            "smoke": json.dumps([*program, "test"]),
        }
        params = [word for name, value in given.items() for word in ("--param", f"{name}={value}")]
        short = ["--param", f"model={DATASET}", "--param", f"replicas={_REPLICAS}", "…"]
        self._system.run(
            "flow", "plan", _PUBLISH, *params, shown=["flow", "plan", _PUBLISH, *short]
        )
        self._system.run(
            "flow", "submit", _PUBLISH, *params, shown=["flow", "submit", _PUBLISH, *short]
        )
        (run,) = self._system.ask("flow", "list")["runs"]
        steps = {
            step["id"]: step for step in self._system.ask("flow", "status", run["id"])["steps"]
        }
        tell(
            f"{steps['roll']['outputs']['replicas']} replicas are ready, the test said "
            f"“{steps['smoke']['outputs']['log']}”, and no worker is left"
        )

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


def _nearness(weights: memoryview, vocabulary: bytes) -> list[float]:
    """Say how near in meaning the other sentences are to the first."""
    encoder = SentenceEncoder(load_safetensors(weights), vocabulary.decode())
    meaning = encoder.encode(_SENTENCE)
    return [float(meaning @ encoder.encode(other)) for other in _OTHERS]


def _why_no_mount() -> str:
    """Say why nothing can be mounted here; empty if it can."""
    if os.geteuid() != 0:
        return "only root mounts in this demo (`cachefs doctor` says what you can do)"
    device = look_around().device
    return f"/dev/fuse: {device}" if device else ""
