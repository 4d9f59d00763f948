"""Whole systems of real processes that a test breaks one by one, an origin that it paces, readers.

Unlike those of ``cachefs up``, nobody starts a process again but the test. A process that comes back
has its old addresses, as it has under a supervisor.
"""

import json
import os
import random
import signal
import sys
import threading
from collections import Counter
from contextlib import suppress
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cachefs.benchmarks.processes import Process
from cachefs.config.files import to_document, write_process_config
from cachefs.config.schema import (
    ClusterConfig,
    CoordinatorConfig,
    FillConfig,
    ReaderConfig,
    TierConfig,
    WorkerConfig,
)
from cachefs.config.secrets import make_token
from cachefs.errors import CacheFSError
from cachefs.sdk import open_dataset
from cachefs.transport.api import Api
from cachefs.transport.runtime import ThreadRuntime

MIB = 1024 * 1024
RUNTIME = ThreadRuntime()
CLOCKS = Path(__file__).parent / "clocks"
READ_PAUSE_SECONDS = 0.003
"""Between two reads of a :class:`Readers`' thread: a read on the network takes as long, and who serves
it needs a processor, too."""
QUICK = FillConfig(backoff_seconds=0.05, peer_timeout_seconds=1.0, fill_seconds=20.0)


def wait_for(condition, seconds=20.0, what="it did not happen"):
    """Return what a condition gives as soon as that is true."""
    until = RUNTIME.monotonic() + seconds
    while not (found := condition()):
        assert RUNTIME.monotonic() < until, what() if callable(what) else what
        RUNTIME.sleep(0.02)
    return found


class System:
    """A coordinator, with the duties of ``cachefs up`` if that is said, and workers; a context manager."""

    def __init__(
        self,
        folder,
        *,
        block_size=64 * 1024,
        lease_seconds=2.0,
        store_url="",
        host="127.0.0.1",
        duties=False,
    ):
        self.folder = folder / "system"
        self.cluster = ClusterConfig(block_size=block_size, lease_seconds=lease_seconds)
        self.host = host
        self._coordinator = "cachefs.cli.system.coordinating" if duties else "cachefs.coordinator"
        self._store_url = store_url or f"sqlite:///{self.folder}/store.db"
        self.folder.mkdir(mode=0o700)
        self.token = make_token(self.folder / "token")
        self.processes: dict[str, Process] = {}
        self._commands: dict[str, tuple] = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes.values():
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGCONT)
            process.stop(kill=True)

    @property
    def api(self):
        return Api(self.processes["coordinator"].addresses["http"], self.token)

    def start_coordinator(self, **options):
        config = CoordinatorConfig(
            store_url=self._store_url, host=self.host, warm_resend_seconds=0.5, **options
        )
        return self._start("coordinator", "coordinator", config)

    def start_worker(self, name, *, capacity=256 * MIB, prefix=(), **options):
        own = self.folder / name
        tier = TierConfig(folder=own / "tier", medium="disk", capacity_bytes=capacity)
        for path in (own, tier.folder):
            path.mkdir(mode=0o700, exist_ok=True)
        defaults = {
            "fill": QUICK,
            "scrub_period_seconds": 0.0,
            "host": self.host,
            "tiers": (tier,),
        }
        options = defaults | options
        config = WorkerConfig(
            name=name,
            state_folder=own,
            coordinator=self.processes["coordinator"].addresses["control"],
            **options,
        )
        return self._start(name, "worker", config, prefix)

    def _start(self, name, section, config, prefix=()):
        """Start a process, at the addresses that it had."""
        before = self.processes.get(name)
        if before is not None:
            ports = {key: int(address.rpartition(":")[2]) for key, address in self._ports(before)}
            config = type(config)(
                **{field: getattr(config, field) for field in config.__dataclass_fields__} | ports
            )
        self._commands[name] = (section, config, prefix)
        path = self.folder / f"{name}.json"
        write_process_config(path, section, self.cluster, config)
        module = self._coordinator if section == "coordinator" else "cachefs.workers"
        process = Process(
            [*prefix, sys.executable, "-m", module, "--config", str(path)],
            log=self.folder / f"{name}.log",
            environment={
                "CACHEFS_TOKEN_FILE": str(self.folder / "token"),
                "CACHEFS_TEST_CLOCK": str(self.folder / f"{name}.clock"),
                "PYTHONPATH": os.pathsep.join(filter(None, (str(CLOCKS), os.getenv("PYTHONPATH")))),
            },
        )
        self.processes[name] = process
        self._publish()
        return process

    @staticmethod
    def _ports(process):
        kinds = ("http", "control", "data")
        return [(f"{k}_port", process.addresses[k]) for k in kinds if k in process.addresses]

    def _publish(self):
        addresses = {name: dict(each.addresses) for name, each in self.processes.items()}
        coordinator = addresses.pop("coordinator")
        cluster = to_document(self.cluster)
        document = {"coordinator": coordinator, "cluster": cluster, "workers": addresses}
        (self.folder / "cluster.json").write_text(json.dumps(document))

    def kill(self, name):
        self.processes[name].stop(kill=True)

    def restart(self, name):
        section, config, prefix = self._commands[name]
        return self._start(name, section, config, prefix)

    def is_running(self, name):
        return self.processes[name].is_running()

    def mend(self, *names):
        """Bring back who was stopped or killed, with right clocks; wait until these are the members."""
        for name, process in self.processes.items():
            if process.is_running():
                self.send(name, signal.SIGCONT)
            elif name in ("coordinator", *names):
                self.restart(name)
            self.move_clock(name, 0.0)
        self.settle(*names)

    def send(self, name, number):
        os.kill(self.processes[name].pid, number)

    def move_clock(self, name, seconds):
        """Make the wall clock of a process wrong by so much, from now on."""
        # In one write, and never shorter than before, so that no process reads a part of it.
        with (self.folder / f"{name}.clock").open("r+b", buffering=0) as file:
            file.write(f"{seconds:<+40.1f}".encode())

    def log(self, name):
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def members(self):
        return {each["worker"] for each in self.api.get("/v1/view")["members"]}

    def wait_for_members(self, *names):
        wait_for(lambda: self.members() == set(names), what=lambda: f"members {self.members()}")

    def settle(self, *names):
        """Wait until these are the members, and all of them know it: then members change no more."""

        def agreed():
            epoch = self.api.get("/v1/view")["epoch"]
            views = [Api(self.processes[n].addresses["data"], self.token) for n in names]
            try:
                return all(view.get("/v1/view")["epoch"] == epoch for view in views)
            except CacheFSError:
                return False

        self.wait_for_members(*names)
        wait_for(agreed, what="the workers do not know each other")

    def forget(self):
        """Have no dataset of the default namespace, and nothing of any."""
        for dataset in self.api.get("/v1/datasets")["datasets"]:
            self.api.post("/v1/evict", {"dataset": dataset["name"]})
            self.api.delete(f"/v1/datasets/default/{dataset['name']}")

    def add(self, name, url, **options):
        body = {"name": name, "origin": {"url": url}, **options}
        return self.api.post("/v1/datasets", body)

    def warm(self, name):
        """Start a warm-up; return its id."""
        return self.api.post("/v1/warm", {"dataset": name})["id"]

    def job(self, name):
        return self.api.get(f"/v1/warm/{name}")

    def wait_for_job(self, name, seconds=30.0):
        """Return a warm-up once it has ended."""

        def ended():
            try:
                job = self.job(name)
            except CacheFSError:
                return None
            return job if job["state"] not in ("waiting", "running") else None

        return wait_for(ended, seconds, what="the warm-up did not end")

    def open(self, name, **config):
        return open_dataset(name, state=self.folder, config=ReaderConfig(**config))


class PacedOrigin:
    """Serves the files of a folder by HTTP; counts what it sends, and can be held back."""

    def __init__(self, folder):
        self.folder = folder
        self.pause_seconds = 0.0
        """Before each body."""
        self.gate = threading.Event()
        """Bodies wait while it is not set."""
        self.gate.set()
        self.asked = Counter()
        """Ranges of bodies asked for: (path, first, last) → times."""
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.origin = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def url(self):
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def begin_anew(self):
        """Be as fast as can be, and forget what was asked."""
        self.pause_seconds = 0.0
        self.gate.set()
        self.asked.clear()

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def bytes_asked(self):
        asked = list(self.asked.items())  # others add to it meanwhile
        return sum((last - first + 1) * times for (_, first, last), times in asked)

    def times_asked(self, path, block_size):
        """Return how often each block of a file was asked for, of those that were."""
        times = Counter()
        for (asked, first, last), count in list(self.asked.items()):
            for index in range(first // block_size, last // block_size + 1):
                times[index] += count * (asked == path)
        return +times


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request, client_address):
        pass


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self._serve(head=True)

    def do_GET(self):
        self._serve(head=False)

    def _serve(self, *, head):
        path = self.server.origin.folder / self.path.lstrip("/")
        if path.is_dir():
            self._send_index(path, head=head)
        elif path.is_file():
            with path.open("rb") as file:
                self._send_file(file, head=head)
        else:
            self.send_error(404)

    def _send_file(self, file, *, head):
        origin = self.server.origin
        status = os.fstat(file.fileno())
        tag = f'"{status.st_ino}-{status.st_size}-{status.st_mtime_ns}"'
        if self.headers.get("If-Match") not in (None, tag):
            self._send_head(412, {"Content-Length": "0"})
            return
        asked = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
        first, last = int(asked[0]), min(int(asked[2] or status.st_size - 1), status.st_size - 1)
        if not head:
            origin.asked[self.path.lstrip("/"), first, last] += 1
            origin.gate.wait(60)
            RUNTIME.sleep(origin.pause_seconds)
        fields = {
            "ETag": tag,
            "Last-Modified": formatdate(status.st_mtime, usegmt=True),
            "Accept-Ranges": "bytes",
            "Content-Length": str(last - first + 1),
        }
        if "Range" in self.headers:
            fields["Content-Range"] = f"bytes {first}-{last}/{status.st_size}"
        self._send_head(206 if "Range" in self.headers else 200, fields)
        while not head and first <= last:
            first += os.sendfile(self.connection.fileno(), file.fileno(), first, last + 1 - first)

    def _send_index(self, folder, *, head):
        names = sorted(f"{each.name}{'/' * each.is_dir()}" for each in folder.iterdir())
        body = "".join(f'<a href="{name}">{name}</a>\n' for name in names).encode()
        self._send_head(200, {"Content-Type": "text/html", "Content-Length": str(len(body))})
        if not head:
            self.wfile.write(body)

    def _send_head(self, status, fields):
        self.send_response(status)
        for name, value in fields.items():
            self.send_header(name, value)
        self.end_headers()


class Readers:
    """Threads that read at random until they are told to end, and remember what went wrong."""

    def __init__(self, dataset, path, content, *, span, deadline_seconds, count=3):
        """Read ranges of up to ``span`` bytes of a file; the dataset is closed at the end."""
        self.wrong = []
        self.errors = []
        self.late = []
        self.reads = 0
        self._dataset = dataset
        self._path = path
        self._content = content
        self._span = span
        self._limit = deadline_seconds + 2.0
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._read, args=(n,)) for n in range(count)]

    def _read(self, seed):
        draw = random.Random(seed)
        with self._dataset.open(self._path) as file:
            while not self._ended.is_set():
                offset = draw.randrange(len(self._content))
                buffer = bytearray(draw.randrange(1, self._span))
                began = RUNTIME.monotonic()
                try:
                    count = file.read_into(offset, memoryview(buffer))
                except CacheFSError as error:
                    self.errors.append(error)
                else:
                    if buffer[:count] != self._content[offset : offset + len(buffer)]:
                        self.wrong.append(offset)
                    self.reads += 1
                if RUNTIME.monotonic() - began > self._limit:
                    self.late.append(RUNTIME.monotonic() - began)
                RUNTIME.sleep(READ_PAUSE_SECONDS)

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        for thread in self._threads:
            thread.join(self._limit + 2.0)
        assert not any(thread.is_alive() for thread in self._threads), "a read hangs"
        self._dataset.close()

    def wait_for_more(self, count=20):
        """Return when so many further reads have succeeded."""
        before = self.reads
        wait_for(lambda: self.reads >= before + count, what=lambda: f"no reads: {self.errors[-3:]}")

    def check(self):
        assert self.wrong == []
        assert self.late == []
        assert self.reads > 0
