"""Every setting there is, one frozen class per component.

There are two kinds. :class:`ClusterConfig` is what all processes of a cluster must agree on; it has
a fingerprint, and a worker whose fingerprint differs is refused. Everything else is per process.
Users write ``64MiB`` and ``30s``; here are only bytes and seconds. ``defaults.yaml`` lists the same
keys with the same defaults, and a test holds the two together.
"""

import hashlib
from dataclasses import asdict, dataclass, field
from pathlib import Path

MIB = 1024 * 1024
GIB = 1024 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterConfig:
    """What all processes of one cluster must agree on."""

    block_size: int = 8 * MIB
    """Bytes of a block."""
    digest: str = "xxh3-128"
    """Algorithm of block digests: ``xxh3-128``, or ``blake3`` against lying workers."""
    lease_seconds: float = 10.0
    """How long a worker stays a member without renewing."""
    wire_version: int = 1
    """Version of the protocols between processes."""

    def fingerprint(self) -> str:
        """Return a short digest of all values."""
        text = repr(sorted(asdict(self).items()))
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class TierConfig:
    """One tier of a worker: a folder."""

    folder: Path
    """Where the tier is; it must be ours and closed to others."""
    medium: str
    """``memory`` (tmpfs) or ``disk``."""
    capacity_bytes: int
    """Never exceeded, bytes in flight included."""
    high_mark: float = 0.95
    """Share of the capacity at which eviction starts."""
    low_mark: float = 0.85
    """Share of the capacity at which eviction stops."""
    eviction: str = "lru"
    """``lru``, ``tinylfu`` or ``size``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FillConfig:
    """How a worker brings blocks in."""

    inflight_fills_limit: int = 8
    """Blocks being filled at once, by demand and warm-up together."""
    queued_fills_limit: int = 100_000
    """Fills that wait; a warm-up beyond it is paced, a read beyond it is refused."""
    attempts_limit: int = 4
    """Requests made to an origin for one block before the fill fails."""
    backoff_seconds: float = 0.2
    """Wait before the second attempt; it doubles, with full jitter."""
    failure_memory_seconds: float = 2.0
    """A failed fill is answered from memory for so long, so that readers' retries do not multiply."""
    peer_timeout_seconds: float = 5.0
    """A peer that is slower than this is passed over."""
    peers_asked_limit: int = 3
    """Peers asked for a block before the origin is."""
    fill_seconds: float = 60.0
    """A fill that has not ended by then has failed, whatever it waits for."""
    uncached_blocks_limit: int = 16
    """Blocks that are served from memory at once because no tier has room for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatConfig:
    """What a worker does when many ask for one block at once."""

    askers_limit: int = 4
    """A block that is being sent to so many at once is hot, and who asks besides is referred to a
    replica; 0 for never. A copy costs as much as one asker, so it pays from the second on."""
    replicas_max: int = 8
    """Workers that send one block, its owner among them."""
    capacity_share: float = 0.1
    """Share of the tiers' capacity that copies of hot blocks may take."""
    idle_seconds: float = 60.0
    """A copy that nobody has read for so long goes again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginConfig:
    """How an origin is used, per process."""

    requests_limit: int = 16
    """Requests to one origin at once."""
    request_rate: float = 0.0
    """Requests a second to one origin; 0 for no limit."""
    bytes_rate: float = 0.0
    """Bytes a second from one origin; 0 for no limit."""
    timeout_seconds: float = 30.0
    """A request that makes no progress for so long has failed."""
    deadline_seconds: float = 120.0
    """A request that has not ended by then has failed, progress or not."""
    allowed_hosts: tuple[str, ...] = ("*",)
    """Host name globs that servers may contact. Link-local and metadata addresses never are."""
    allow_private: bool = True
    """Whether private and loopback addresses are allowed: where most object stores of one's own are."""
    file_roots: tuple[str, ...] = ("/",)
    """Folders that ``file://`` datasets may be in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig:
    """A worker process."""

    name: str
    """The worker's lasting name, unique in the cluster."""
    state_folder: Path
    """Holds the identity and, by default, the disk tier."""
    tiers: tuple[TierConfig, ...]
    """Fastest first."""
    coordinator: str
    """``host:port`` of the coordinator's gRPC server."""
    host: str = "127.0.0.1"
    """Address that the worker binds and announces."""
    data_port: int = 0
    """HTTP data plane; 0 for any free port."""
    control_port: int = 0
    """gRPC control; 0 for any free port."""
    socket_folder: str = ""
    """Where the Unix socket for readers on this node is, below a folder of the worker's name; empty for the
    state folder. In pods, it must be the same path for the worker and for its readers."""
    zone: str = ""
    rack: str = ""
    """Within the zone; empty for a rack that is not told from others."""
    region: str = ""
    node_name: str = ""
    """What schedulers call the machine; empty for its host name."""
    labels: tuple[str, ...] = ()
    """Further facts of the machine, ``key=value``, for whoever asks for hints with a selector."""
    link_bytes_rate: float = 0.0
    """Bytes a second of the machine's network; 0 for what its network card says."""
    disk_bytes_rate: float = 0.0
    """Bytes a second that the disk tier is read at; 0 if nobody has measured it."""
    pool: str = "default"
    connections_limit: int = 256
    """Data-plane connections at once; more wait in the kernel's queue."""
    idle_seconds: float = 60.0
    """A connection without a request for so long is closed."""
    scrub_period_seconds: float = 7 * 86400.0
    """Within it every resident block is verified once; 0 switches scrubbing off."""
    scrub_bytes_rate: float = 64.0 * MIB
    """Most bytes a second that the scrubber reads."""
    move_bytes_rate: float = 128.0 * MIB
    """Bytes a second that each newcomer takes from this worker at most, of what is its to own; 0 for
    no limit. A drain has none: somebody waits for it."""
    move_delay_seconds: float = 2.0
    """Members must not have changed for so long before anything moves: most join together."""
    fill: FillConfig = field(default_factory=FillConfig)
    heat: HeatConfig = field(default_factory=HeatConfig)
    origin: OriginConfig = field(default_factory=OriginConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanningConfig:
    """What plans of flows reckon with. They are estimates, of this site: measure, and put them here."""

    origin_bytes_per_second: int = 250_000_000
    """What one worker fills from an origin."""
    peer_bytes_per_second: int = 1_000_000_000
    """What one worker fills from others."""
    worker_seconds: float = 3.0
    """Until a worker that was started is a member, or one that left is gone."""
    egress_usd_per_gb: float = 0.0
    """What an origin that is not a folder charges for 10⁹ bytes; 0 within one region of most clouds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowConfig:
    """How a coordinator carries out flows."""

    lease_seconds: float = 15.0
    """Another coordinator goes on with the runs of one that was silent for so long."""
    runs_limit: int = 64
    """Runs that are carried out at once; more are queued."""
    queued_runs_limit: int = 1000
    """Runs that wait; one more is refused."""
    steps_limit: int = 128
    """Steps of all runs that are carried out at once; more wait."""
    step_seconds: float = 86400.0
    """A step without a timeout of its own has this one."""
    watchers_limit: int = 64
    """Requests at once that are told of a run's progress; one more is refused."""
    runs_kept: int = 1000
    """Runs that are over stay listed, the newest so many of them."""
    runs_kept_seconds: float = 30 * 86400.0
    """And none of them longer than this."""
    processes: bool = True
    """Whether flows may run programs on this machine: whoever may submit them is then its user."""
    process_log_bytes: int = 4 * MIB
    """Of what a program writes, so much is kept, and at most twice as much."""
    handed_out: bool = False
    """Whether programs, and rollouts to a cluster, are handed out to an executor, such as the operator,
    which runs them on the cluster; then no program of a step runs on this machine."""
    executor_seconds: float = 300.0
    """What is handed out fails when no executor has asked for it for so long."""
    planning: PlanningConfig = PlanningConfig()


@dataclass(frozen=True, slots=True, kw_only=True)
class HintsConfig:
    """What hints reckon with beyond what workers say."""

    nodes_file: str = ""
    """A YAML file of nodes, for clusters that nobody else describes; empty for none."""
    rack_bytes_rate: float = 0.0
    """Bytes a second between a rack and the rest of its zone; 0 for no limit. The file of nodes may
    give another for a rack, a zone or an origin."""
    zone_bytes_rate: float = 0.0
    """Bytes a second between a zone and the others; 0 for no limit."""
    origin_bytes_rate: float = 0.0
    """Bytes a second from an origin to all nodes together; 0 for no limit."""
    assigned_share: float = 0.1
    """Of a dataset, so much counts as being on a node of which a label says no more than that another
    cache was assigned the dataset there."""
    spread_files_limit: int = 1_000_000
    """Files of which the places are kept sorted for hints, of all datasets and patterns together; what was
    asked for longest ago goes first. Each takes about 300 bytes."""
    valid_seconds: float = 5.0
    """How long an answer may be used: what it says of releases and transfers is worth little after that."""
    stale_seconds: float = 30.0
    """An answer that rests on older knowledge says so; a question may ask for fresher."""
    watchers_limit: int = 64
    """Requests at once that are told of changes of hints; one more is refused."""
    remembered_nodes: int = 50_000
    """Hints are remembered for their outcomes, the newest that have so many nodes together. Each takes about a
    kilobyte."""
    gates: bool = False
    """Whether pods that say so are held by a scheduling gate until their data is close: only where the operator
    runs, which takes it away."""
    gpu_usd_per_hour: float = 0.0
    """What an accelerator costs, busy or not: hints tell what it costs while it waits for data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantsConfig:
    """What namespaces may do that are not trusted with everything."""

    trusted: tuple[str, ...] = ("*",)
    """Globs of the namespaces that may do everything; where there is only one user, that is all of them."""
    sources: tuple[str, ...] = ()
    """Origins that the others may name, endpoints included: NAMESPACE=URL, globs both, as
    team-a=s3://team-a-*."""
    destinations: tuple[str, ...] = ()
    """Where flows of the others may have something written, with the coordinator's credentials: as above."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CoordinatorConfig:
    """A coordinator process."""

    store_url: str
    """``sqlite:///PATH`` or ``postgresql://…``."""
    host: str = "127.0.0.1"
    control_port: int = 0
    """gRPC; 0 for any free port."""
    http_port: int = 0
    """HTTP API; 0 for any free port."""
    events_kept: int = 10_000
    """Older events are deleted."""
    residency_kept_seconds: float = 7 * 86400.0
    """What a worker held that has been gone for so long is forgotten."""
    warm_jobs_limit: int = 16
    """Warm-ups that run at once; more wait."""
    warm_resend_seconds: float = 5.0
    """A worker that makes no progress with a warm-up for so long is told again; then it doubles."""
    warm_stall_seconds: float = 600.0
    """A warm-up without any progress for so long has failed."""
    listing_wait_seconds: float = 15.0
    """Longest that an open waits for an origin's listing; below a reader's deadline."""
    listing_retry_seconds: float = 5.0
    """After a failed listing, opens under ``max_age`` take the last version for so long."""
    manifest_limit_bytes: int = 256 * MIB
    """A dataset with a longer file list is refused."""
    request_limit_bytes: int = 64 * MIB
    """A request with a longer body is refused."""
    flows: FlowConfig = field(default_factory=FlowConfig)
    hints: HintsConfig = field(default_factory=HintsConfig)
    tenants: TenantsConfig = TenantsConfig()
    origin: OriginConfig = field(default_factory=OriginConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderConfig:
    """The reader library, in any process."""

    deadline_seconds: float = 20.0
    """A read that has not ended by then raises ``DeadlineError``."""
    connections_limit: int = 4
    """Blocks that one reader fetches at once."""
    hedge_quantile: float = 0.95
    """A fetch slower than this quantile of recent ones is asked for elsewhere too."""
    hedge_seconds_min: float = 0.05
    """But never sooner than this."""
    stall_seconds: float = 5.0
    """A worker silent for so long is given up, and another may fill the block."""
    attempts_limit: int = 64
    """Requests made for one block before the read fails, hedges not counted."""
    local: bool = True
    """Use descriptors of workers on this node."""
    view_seconds: float = 2.0
    """How old a view may be before it is refreshed in the background."""
    readahead_bytes: int = 64 * MIB
    """Most bytes fetched ahead in a file that is read forward; 0 switches it off."""
    block_cache_bytes: int = 64 * MIB
    """Memory for verified blocks of which only a part was asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MountConfig:
    """How a mount behaves."""

    engine: str = "auto"
    """``native`` (the kernel's protocol), ``libfuse``, or ``auto`` for the better one that works."""
    recovery: bool = True
    """Whether a keeper holds the mount, so that it survives the death of the process that serves."""
    read_ahead_bytes: int = 4 * MIB
    """What the kernel asks for ahead of a program that reads a file in order; needs root."""
    watchdog_seconds: float = 30.0
    """A serving process without a sign of life for so long is killed; above a read's deadline."""
    start_seconds: float = 30.0
    """A serving process that is not ready by then is killed."""
    restarts_limit: int = 20
    """Starts of a serving process within a minute; one more, and readers get errors instead."""
    handover_seconds: float = 2.0
    """How long an old serving process may finish what it has, when a new one takes over."""
    unmount_seconds: float = 10.0
    """How long open files may be read on after the keeper was told to end; then they get errors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayConfig:
    """The endpoints for programs that know S3 or the Hugging Face Hub."""

    host: str = "127.0.0.1"
    """Address that the endpoints bind."""
    s3_port: int = 0
    """0 for any free port."""
    hub_port: int = 0
    """0 for any free port."""
    s3_domains: tuple[str, ...] = ("localhost",)
    """Host names before which a bucket may stand: ``BUCKET.localhost``."""
    anonymous: bool = False
    """Let in requests without credentials; wrong credentials are refused all the same."""
    connections_limit: int = 128
    """Connections of each endpoint at once; more wait in the kernel's queue."""
    idle_seconds: float = 60.0
    """A connection without a request for so long is closed."""
    reads_limit: int = 16
    """Blocks fetched over the network at once, for all requests together."""
    block_cache_bytes: int = 256 * MIB
    """Memory for verified blocks that were fetched for requests or ahead of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayPlan:
    """What a gateway is told; written by ``cachefs up``, or made in a pod."""

    coordinator: str
    """``host:port`` of its HTTP API."""
    workers: tuple[str, ...]
    """``host:port`` of data planes, for when the coordinator is down."""
    settings: GatewayConfig
    reader: ReaderConfig
    datasets: tuple[str, ...] = ()
    """The only ones that are listed; none for all that the coordinator knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MountPlan:
    """What the processes of one mount are told; written by ``cachefs mount``."""

    mountpoint: Path
    source: str
    """As the mount table shows it."""
    dataset: str
    """Empty for all."""
    version: str
    """Empty for the current one."""
    engine: str
    """The one that was chosen."""
    engine_reason: str
    recovery: bool
    uid: int
    gid: int
    umask: int
    allow_other: bool
    follow_current: bool
    state_folder: Path | None
    """Where the system was found, and is looked for again; ``None`` if by its address."""
    coordinator: str
    """``host:port`` of its HTTP API."""
    workers: tuple[str, ...]
    """``host:port`` of data planes, for when the coordinator is down."""
    token_file: Path
    settings: MountConfig
    reader: ReaderConfig
