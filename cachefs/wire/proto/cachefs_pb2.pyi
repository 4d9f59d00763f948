from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Member(_message.Message):
    __slots__ = ("worker", "incarnation", "node", "zone", "pool", "weight", "data_address", "control_address", "socket_path", "draining")
    WORKER_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    ZONE_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    DATA_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    CONTROL_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    SOCKET_PATH_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    worker: str
    incarnation: str
    node: str
    zone: str
    pool: str
    weight: float
    data_address: str
    control_address: str
    socket_path: str
    draining: bool
    def __init__(self, worker: _Optional[str] = ..., incarnation: _Optional[str] = ..., node: _Optional[str] = ..., zone: _Optional[str] = ..., pool: _Optional[str] = ..., weight: _Optional[float] = ..., data_address: _Optional[str] = ..., control_address: _Optional[str] = ..., socket_path: _Optional[str] = ..., draining: _Optional[bool] = ...) -> None: ...

class View(_message.Message):
    __slots__ = ("epoch", "members")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    members: _containers.RepeatedCompositeFieldContainer[Member]
    def __init__(self, epoch: _Optional[int] = ..., members: _Optional[_Iterable[_Union[Member, _Mapping]]] = ...) -> None: ...

class OriginSpec(_message.Message):
    __slots__ = ("url", "options")
    class OptionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    URL_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    url: str
    options: _containers.ScalarMap[str, str]
    def __init__(self, url: _Optional[str] = ..., options: _Optional[_Mapping[str, str]] = ...) -> None: ...

class Dataset(_message.Message):
    __slots__ = ("name", "origin", "include", "exclude", "consistency", "pool", "replicas", "pins", "ttl_seconds", "versions_kept", "current")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_FIELD_NUMBER: _ClassVar[int]
    EXCLUDE_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    PINS_FIELD_NUMBER: _ClassVar[int]
    TTL_SECONDS_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_KEPT_FIELD_NUMBER: _ClassVar[int]
    CURRENT_FIELD_NUMBER: _ClassVar[int]
    name: str
    origin: OriginSpec
    include: _containers.RepeatedScalarFieldContainer[str]
    exclude: _containers.RepeatedScalarFieldContainer[str]
    consistency: str
    pool: str
    replicas: int
    pins: _containers.RepeatedScalarFieldContainer[str]
    ttl_seconds: float
    versions_kept: int
    current: str
    def __init__(self, name: _Optional[str] = ..., origin: _Optional[_Union[OriginSpec, _Mapping]] = ..., include: _Optional[_Iterable[str]] = ..., exclude: _Optional[_Iterable[str]] = ..., consistency: _Optional[str] = ..., pool: _Optional[str] = ..., replicas: _Optional[int] = ..., pins: _Optional[_Iterable[str]] = ..., ttl_seconds: _Optional[float] = ..., versions_kept: _Optional[int] = ..., current: _Optional[str] = ...) -> None: ...

class Version(_message.Message):
    __slots__ = ("id", "dataset", "origin", "client", "client_reason", "file_count", "size", "listed_at", "labels")
    ID_FIELD_NUMBER: _ClassVar[int]
    DATASET_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    CLIENT_REASON_FIELD_NUMBER: _ClassVar[int]
    FILE_COUNT_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    LISTED_AT_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    id: str
    dataset: str
    origin: OriginSpec
    client: str
    client_reason: str
    file_count: int
    size: int
    listed_at: float
    labels: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, id: _Optional[str] = ..., dataset: _Optional[str] = ..., origin: _Optional[_Union[OriginSpec, _Mapping]] = ..., client: _Optional[str] = ..., client_reason: _Optional[str] = ..., file_count: _Optional[int] = ..., size: _Optional[int] = ..., listed_at: _Optional[float] = ..., labels: _Optional[_Iterable[str]] = ...) -> None: ...

class RegisterRequest(_message.Message):
    __slots__ = ("member", "fingerprint")
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    member: Member
    fingerprint: str
    def __init__(self, member: _Optional[_Union[Member, _Mapping]] = ..., fingerprint: _Optional[str] = ...) -> None: ...

class RegisterResponse(_message.Message):
    __slots__ = ("view", "lease_seconds")
    VIEW_FIELD_NUMBER: _ClassVar[int]
    LEASE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    view: View
    lease_seconds: float
    def __init__(self, view: _Optional[_Union[View, _Mapping]] = ..., lease_seconds: _Optional[float] = ...) -> None: ...

class Residency(_message.Message):
    __slots__ = ("file_version", "dataset", "version", "tier", "resident", "digests")
    FILE_VERSION_FIELD_NUMBER: _ClassVar[int]
    DATASET_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    RESIDENT_FIELD_NUMBER: _ClassVar[int]
    DIGESTS_FIELD_NUMBER: _ClassVar[int]
    file_version: str
    dataset: str
    version: str
    tier: str
    resident: bytes
    digests: bytes
    def __init__(self, file_version: _Optional[str] = ..., dataset: _Optional[str] = ..., version: _Optional[str] = ..., tier: _Optional[str] = ..., resident: _Optional[bytes] = ..., digests: _Optional[bytes] = ...) -> None: ...

class FailedFill(_message.Message):
    __slots__ = ("dataset", "version", "file_version", "index", "failure")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    FILE_VERSION_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    version: str
    file_version: str
    index: int
    failure: str
    def __init__(self, dataset: _Optional[str] = ..., version: _Optional[str] = ..., file_version: _Optional[str] = ..., index: _Optional[int] = ..., failure: _Optional[str] = ...) -> None: ...

class RenewRequest(_message.Message):
    __slots__ = ("worker", "incarnation", "epoch", "residency", "residency_is_whole", "failures", "statistics", "suspects", "pins_revision")
    WORKER_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    RESIDENCY_FIELD_NUMBER: _ClassVar[int]
    RESIDENCY_IS_WHOLE_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    STATISTICS_FIELD_NUMBER: _ClassVar[int]
    SUSPECTS_FIELD_NUMBER: _ClassVar[int]
    PINS_REVISION_FIELD_NUMBER: _ClassVar[int]
    worker: str
    incarnation: str
    epoch: int
    residency: _containers.RepeatedCompositeFieldContainer[Residency]
    residency_is_whole: bool
    failures: _containers.RepeatedCompositeFieldContainer[FailedFill]
    statistics: str
    suspects: _containers.RepeatedScalarFieldContainer[str]
    pins_revision: int
    def __init__(self, worker: _Optional[str] = ..., incarnation: _Optional[str] = ..., epoch: _Optional[int] = ..., residency: _Optional[_Iterable[_Union[Residency, _Mapping]]] = ..., residency_is_whole: _Optional[bool] = ..., failures: _Optional[_Iterable[_Union[FailedFill, _Mapping]]] = ..., statistics: _Optional[str] = ..., suspects: _Optional[_Iterable[str]] = ..., pins_revision: _Optional[int] = ...) -> None: ...

class RenewResponse(_message.Message):
    __slots__ = ("view", "want_residency", "pins", "dropped")
    VIEW_FIELD_NUMBER: _ClassVar[int]
    WANT_RESIDENCY_FIELD_NUMBER: _ClassVar[int]
    PINS_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    view: View
    want_residency: bool
    pins: Pins
    dropped: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, view: _Optional[_Union[View, _Mapping]] = ..., want_residency: _Optional[bool] = ..., pins: _Optional[_Union[Pins, _Mapping]] = ..., dropped: _Optional[_Iterable[str]] = ...) -> None: ...

class Pins(_message.Message):
    __slots__ = ("revision", "pinned", "ttls")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    PINNED_FIELD_NUMBER: _ClassVar[int]
    TTLS_FIELD_NUMBER: _ClassVar[int]
    revision: int
    pinned: bytes
    ttls: _containers.RepeatedCompositeFieldContainer[TimeToLive]
    def __init__(self, revision: _Optional[int] = ..., pinned: _Optional[bytes] = ..., ttls: _Optional[_Iterable[_Union[TimeToLive, _Mapping]]] = ...) -> None: ...

class TimeToLive(_message.Message):
    __slots__ = ("seconds", "file_versions")
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    FILE_VERSIONS_FIELD_NUMBER: _ClassVar[int]
    seconds: float
    file_versions: bytes
    def __init__(self, seconds: _Optional[float] = ..., file_versions: _Optional[bytes] = ...) -> None: ...

class LeaveRequest(_message.Message):
    __slots__ = ("worker", "incarnation")
    WORKER_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    worker: str
    incarnation: str
    def __init__(self, worker: _Optional[str] = ..., incarnation: _Optional[str] = ...) -> None: ...

class LeaveResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetViewRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class AddDatasetRequest(_message.Message):
    __slots__ = ("dataset", "checksums")
    class ChecksumsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    DATASET_FIELD_NUMBER: _ClassVar[int]
    CHECKSUMS_FIELD_NUMBER: _ClassVar[int]
    dataset: Dataset
    checksums: _containers.ScalarMap[str, str]
    def __init__(self, dataset: _Optional[_Union[Dataset, _Mapping]] = ..., checksums: _Optional[_Mapping[str, str]] = ...) -> None: ...

class ChangeDatasetRequest(_message.Message):
    __slots__ = ("name", "replicas", "consistency", "pool", "pin", "unpin", "ttl_seconds", "current")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    PIN_FIELD_NUMBER: _ClassVar[int]
    UNPIN_FIELD_NUMBER: _ClassVar[int]
    TTL_SECONDS_FIELD_NUMBER: _ClassVar[int]
    CURRENT_FIELD_NUMBER: _ClassVar[int]
    name: str
    replicas: int
    consistency: str
    pool: str
    pin: _containers.RepeatedScalarFieldContainer[str]
    unpin: _containers.RepeatedScalarFieldContainer[str]
    ttl_seconds: float
    current: str
    def __init__(self, name: _Optional[str] = ..., replicas: _Optional[int] = ..., consistency: _Optional[str] = ..., pool: _Optional[str] = ..., pin: _Optional[_Iterable[str]] = ..., unpin: _Optional[_Iterable[str]] = ..., ttl_seconds: _Optional[float] = ..., current: _Optional[str] = ...) -> None: ...

class RemoveDatasetRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class RemoveDatasetResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListDatasetsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListDatasetsResponse(_message.Message):
    __slots__ = ("datasets",)
    DATASETS_FIELD_NUMBER: _ClassVar[int]
    datasets: _containers.RepeatedCompositeFieldContainer[Dataset]
    def __init__(self, datasets: _Optional[_Iterable[_Union[Dataset, _Mapping]]] = ...) -> None: ...

class UpdateDatasetRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ListVersionsRequest(_message.Message):
    __slots__ = ("dataset",)
    DATASET_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    def __init__(self, dataset: _Optional[str] = ...) -> None: ...

class ListVersionsResponse(_message.Message):
    __slots__ = ("versions",)
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    versions: _containers.RepeatedCompositeFieldContainer[Version]
    def __init__(self, versions: _Optional[_Iterable[_Union[Version, _Mapping]]] = ...) -> None: ...

class ResolveRequest(_message.Message):
    __slots__ = ("dataset", "version")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    version: str
    def __init__(self, dataset: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class ResolveResponse(_message.Message):
    __slots__ = ("version", "pool", "replicas")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    version: Version
    pool: str
    replicas: int
    def __init__(self, version: _Optional[_Union[Version, _Mapping]] = ..., pool: _Optional[str] = ..., replicas: _Optional[int] = ...) -> None: ...

class GetManifestRequest(_message.Message):
    __slots__ = ("version",)
    VERSION_FIELD_NUMBER: _ClassVar[int]
    version: str
    def __init__(self, version: _Optional[str] = ...) -> None: ...

class ManifestPart(_message.Message):
    __slots__ = ("encoded",)
    ENCODED_FIELD_NUMBER: _ClassVar[int]
    encoded: bytes
    def __init__(self, encoded: _Optional[bytes] = ...) -> None: ...

class GetDigestsRequest(_message.Message):
    __slots__ = ("file_version",)
    FILE_VERSION_FIELD_NUMBER: _ClassVar[int]
    file_version: str
    def __init__(self, file_version: _Optional[str] = ...) -> None: ...

class GetDigestsResponse(_message.Message):
    __slots__ = ("digests",)
    DIGESTS_FIELD_NUMBER: _ClassVar[int]
    digests: bytes
    def __init__(self, digests: _Optional[bytes] = ...) -> None: ...

class GetHoldersRequest(_message.Message):
    __slots__ = ("file_version",)
    FILE_VERSION_FIELD_NUMBER: _ClassVar[int]
    file_version: str
    def __init__(self, file_version: _Optional[str] = ...) -> None: ...

class GetHoldersResponse(_message.Message):
    __slots__ = ("holders",)
    HOLDERS_FIELD_NUMBER: _ClassVar[int]
    holders: _containers.RepeatedCompositeFieldContainer[Holder]
    def __init__(self, holders: _Optional[_Iterable[_Union[Holder, _Mapping]]] = ...) -> None: ...

class Holder(_message.Message):
    __slots__ = ("worker", "blocks")
    WORKER_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    worker: str
    blocks: bytes
    def __init__(self, worker: _Optional[str] = ..., blocks: _Optional[bytes] = ...) -> None: ...

class StartWarmRequest(_message.Message):
    __slots__ = ("dataset", "version", "paths", "key", "zone", "copies", "rate", "map", "workers")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PATHS_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    ZONE_FIELD_NUMBER: _ClassVar[int]
    COPIES_FIELD_NUMBER: _ClassVar[int]
    RATE_FIELD_NUMBER: _ClassVar[int]
    MAP_FIELD_NUMBER: _ClassVar[int]
    WORKERS_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    version: str
    paths: _containers.RepeatedScalarFieldContainer[str]
    key: str
    zone: str
    copies: int
    rate: int
    map: str
    workers: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, dataset: _Optional[str] = ..., version: _Optional[str] = ..., paths: _Optional[_Iterable[str]] = ..., key: _Optional[str] = ..., zone: _Optional[str] = ..., copies: _Optional[int] = ..., rate: _Optional[int] = ..., map: _Optional[str] = ..., workers: _Optional[_Iterable[str]] = ...) -> None: ...

class GetWarmRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class WarmJob(_message.Message):
    __slots__ = ("id", "dataset", "version", "paths", "state", "bytes_total", "bytes_done", "blocks_total", "blocks_done", "failure", "started_at", "ended_at", "created_at", "key", "zone", "copies", "rate", "map", "workers")
    ID_FIELD_NUMBER: _ClassVar[int]
    DATASET_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PATHS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    BYTES_TOTAL_FIELD_NUMBER: _ClassVar[int]
    BYTES_DONE_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_TOTAL_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_DONE_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    ENDED_AT_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    ZONE_FIELD_NUMBER: _ClassVar[int]
    COPIES_FIELD_NUMBER: _ClassVar[int]
    RATE_FIELD_NUMBER: _ClassVar[int]
    MAP_FIELD_NUMBER: _ClassVar[int]
    WORKERS_FIELD_NUMBER: _ClassVar[int]
    id: str
    dataset: str
    version: str
    paths: _containers.RepeatedScalarFieldContainer[str]
    state: str
    bytes_total: int
    bytes_done: int
    blocks_total: int
    blocks_done: int
    failure: str
    started_at: float
    ended_at: float
    created_at: float
    key: str
    zone: str
    copies: int
    rate: int
    map: str
    workers: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, id: _Optional[str] = ..., dataset: _Optional[str] = ..., version: _Optional[str] = ..., paths: _Optional[_Iterable[str]] = ..., state: _Optional[str] = ..., bytes_total: _Optional[int] = ..., bytes_done: _Optional[int] = ..., blocks_total: _Optional[int] = ..., blocks_done: _Optional[int] = ..., failure: _Optional[str] = ..., started_at: _Optional[float] = ..., ended_at: _Optional[float] = ..., created_at: _Optional[float] = ..., key: _Optional[str] = ..., zone: _Optional[str] = ..., copies: _Optional[int] = ..., rate: _Optional[int] = ..., map: _Optional[str] = ..., workers: _Optional[_Iterable[str]] = ...) -> None: ...

class ListWarmRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListWarmResponse(_message.Message):
    __slots__ = ("jobs",)
    JOBS_FIELD_NUMBER: _ClassVar[int]
    jobs: _containers.RepeatedCompositeFieldContainer[WarmJob]
    def __init__(self, jobs: _Optional[_Iterable[_Union[WarmJob, _Mapping]]] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("id", "at", "kind", "subject", "message")
    ID_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    id: int
    at: float
    kind: str
    subject: str
    message: str
    def __init__(self, id: _Optional[int] = ..., at: _Optional[float] = ..., kind: _Optional[str] = ..., subject: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class ListEventsRequest(_message.Message):
    __slots__ = ("after", "limit")
    AFTER_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    after: int
    limit: int
    def __init__(self, after: _Optional[int] = ..., limit: _Optional[int] = ...) -> None: ...

class ListEventsResponse(_message.Message):
    __slots__ = ("events",)
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[Event]
    def __init__(self, events: _Optional[_Iterable[_Union[Event, _Mapping]]] = ...) -> None: ...

class HintQuestion(_message.Message):
    __slots__ = ("job_id", "tenant", "datasets", "gang", "gpu", "image", "candidates", "selector", "loader", "deadline_s", "expected_duration_s", "max_staleness_s", "reserve", "limit", "explain", "prefetch", "dry_run", "renderings")
    class SelectorEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    DATASETS_FIELD_NUMBER: _ClassVar[int]
    GANG_FIELD_NUMBER: _ClassVar[int]
    GPU_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    SELECTOR_FIELD_NUMBER: _ClassVar[int]
    LOADER_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_S_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_DURATION_S_FIELD_NUMBER: _ClassVar[int]
    MAX_STALENESS_S_FIELD_NUMBER: _ClassVar[int]
    RESERVE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    EXPLAIN_FIELD_NUMBER: _ClassVar[int]
    PREFETCH_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    RENDERINGS_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    tenant: str
    datasets: _containers.RepeatedCompositeFieldContainer[HintReading]
    gang: HintGang
    gpu: HintGpu
    image: HintImage
    candidates: _containers.RepeatedScalarFieldContainer[str]
    selector: _containers.ScalarMap[str, str]
    loader: HintLoader
    deadline_s: float
    expected_duration_s: float
    max_staleness_s: float
    reserve: HintReserve
    limit: int
    explain: bool
    prefetch: bool
    dry_run: bool
    renderings: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, job_id: _Optional[str] = ..., tenant: _Optional[str] = ..., datasets: _Optional[_Iterable[_Union[HintReading, _Mapping]]] = ..., gang: _Optional[_Union[HintGang, _Mapping]] = ..., gpu: _Optional[_Union[HintGpu, _Mapping]] = ..., image: _Optional[_Union[HintImage, _Mapping]] = ..., candidates: _Optional[_Iterable[str]] = ..., selector: _Optional[_Mapping[str, str]] = ..., loader: _Optional[_Union[HintLoader, _Mapping]] = ..., deadline_s: _Optional[float] = ..., expected_duration_s: _Optional[float] = ..., max_staleness_s: _Optional[float] = ..., reserve: _Optional[_Union[HintReserve, _Mapping]] = ..., limit: _Optional[int] = ..., explain: _Optional[bool] = ..., prefetch: _Optional[bool] = ..., dry_run: _Optional[bool] = ..., renderings: _Optional[_Iterable[str]] = ...) -> None: ...

class HintBatch(_message.Message):
    __slots__ = ("jobs", "waiting", "places")
    JOBS_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    PLACES_FIELD_NUMBER: _ClassVar[int]
    jobs: _containers.RepeatedCompositeFieldContainer[HintQuestion]
    waiting: int
    places: _containers.RepeatedCompositeFieldContainer[HintOwnPlace]
    def __init__(self, jobs: _Optional[_Iterable[_Union[HintQuestion, _Mapping]]] = ..., waiting: _Optional[int] = ..., places: _Optional[_Iterable[_Union[HintOwnPlace, _Mapping]]] = ...) -> None: ...

class HintOwnPlace(_message.Message):
    __slots__ = ("name", "node", "holds", "busy_s", "idle_s")
    NAME_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    HOLDS_FIELD_NUMBER: _ClassVar[int]
    BUSY_S_FIELD_NUMBER: _ClassVar[int]
    IDLE_S_FIELD_NUMBER: _ClassVar[int]
    name: str
    node: str
    holds: str
    busy_s: float
    idle_s: float
    def __init__(self, name: _Optional[str] = ..., node: _Optional[str] = ..., holds: _Optional[str] = ..., busy_s: _Optional[float] = ..., idle_s: _Optional[float] = ...) -> None: ...

class HintList(_message.Message):
    __slots__ = ("hints",)
    HINTS_FIELD_NUMBER: _ClassVar[int]
    hints: _containers.RepeatedCompositeFieldContainer[Hint]
    def __init__(self, hints: _Optional[_Iterable[_Union[Hint, _Mapping]]] = ...) -> None: ...

class HintReading(_message.Message):
    __slots__ = ("name", "revision", "paths", "shard", "affinity", "weight")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    PATHS_FIELD_NUMBER: _ClassVar[int]
    SHARD_FIELD_NUMBER: _ClassVar[int]
    AFFINITY_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    name: str
    revision: str
    paths: _containers.RepeatedScalarFieldContainer[str]
    shard: str
    affinity: str
    weight: float
    def __init__(self, name: _Optional[str] = ..., revision: _Optional[str] = ..., paths: _Optional[_Iterable[str]] = ..., shard: _Optional[str] = ..., affinity: _Optional[str] = ..., weight: _Optional[float] = ...) -> None: ...

class HintGang(_message.Message):
    __slots__ = ("size", "min_available", "topology")
    SIZE_FIELD_NUMBER: _ClassVar[int]
    MIN_AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    TOPOLOGY_FIELD_NUMBER: _ClassVar[int]
    size: int
    min_available: int
    topology: HintTopology
    def __init__(self, size: _Optional[int] = ..., min_available: _Optional[int] = ..., topology: _Optional[_Union[HintTopology, _Mapping]] = ...) -> None: ...

class HintTopology(_message.Message):
    __slots__ = ("required", "preferred")
    REQUIRED_FIELD_NUMBER: _ClassVar[int]
    PREFERRED_FIELD_NUMBER: _ClassVar[int]
    required: str
    preferred: str
    def __init__(self, required: _Optional[str] = ..., preferred: _Optional[str] = ...) -> None: ...

class HintGpu(_message.Message):
    __slots__ = ("count", "model", "memory_gib", "mig_profile", "fraction")
    COUNT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MEMORY_GIB_FIELD_NUMBER: _ClassVar[int]
    MIG_PROFILE_FIELD_NUMBER: _ClassVar[int]
    FRACTION_FIELD_NUMBER: _ClassVar[int]
    count: int
    model: str
    memory_gib: float
    mig_profile: str
    fraction: float
    def __init__(self, count: _Optional[int] = ..., model: _Optional[str] = ..., memory_gib: _Optional[float] = ..., mig_profile: _Optional[str] = ..., fraction: _Optional[float] = ...) -> None: ...

class HintImage(_message.Message):
    __slots__ = ("name", "bytes")
    NAME_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    name: str
    bytes: int
    def __init__(self, name: _Optional[str] = ..., bytes: _Optional[int] = ...) -> None: ...

class HintLoader(_message.Message):
    __slots__ = ("mode", "required_fraction")
    MODE_FIELD_NUMBER: _ClassVar[int]
    REQUIRED_FRACTION_FIELD_NUMBER: _ClassVar[int]
    mode: str
    required_fraction: float
    def __init__(self, mode: _Optional[str] = ..., required_fraction: _Optional[float] = ...) -> None: ...

class HintReserve(_message.Message):
    __slots__ = ("ttl_s",)
    TTL_S_FIELD_NUMBER: _ClassVar[int]
    ttl_s: float
    def __init__(self, ttl_s: _Optional[float] = ...) -> None: ...

class Hint(_message.Message):
    __slots__ = ("hint_id", "generated_at", "epoch", "valid_until", "nodes", "gang", "wait", "reservation", "actions", "refused", "degraded", "renderings", "start")
    class RefusedEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    HINT_ID_FIELD_NUMBER: _ClassVar[int]
    GENERATED_AT_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    VALID_UNTIL_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    GANG_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    RESERVATION_FIELD_NUMBER: _ClassVar[int]
    ACTIONS_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    RENDERINGS_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    hint_id: str
    generated_at: str
    epoch: int
    valid_until: str
    nodes: _containers.RepeatedCompositeFieldContainer[HintNode]
    gang: HintGangPlace
    wait: HintWait
    reservation: Reservation
    actions: _containers.RepeatedCompositeFieldContainer[HintAction]
    refused: _containers.ScalarMap[str, str]
    degraded: str
    renderings: _struct_pb2.Struct
    start: HintStart
    def __init__(self, hint_id: _Optional[str] = ..., generated_at: _Optional[str] = ..., epoch: _Optional[int] = ..., valid_until: _Optional[str] = ..., nodes: _Optional[_Iterable[_Union[HintNode, _Mapping]]] = ..., gang: _Optional[_Union[HintGangPlace, _Mapping]] = ..., wait: _Optional[_Union[HintWait, _Mapping]] = ..., reservation: _Optional[_Union[Reservation, _Mapping]] = ..., actions: _Optional[_Iterable[_Union[HintAction, _Mapping]]] = ..., refused: _Optional[_Mapping[str, str]] = ..., degraded: _Optional[str] = ..., renderings: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., start: _Optional[_Union[HintStart, _Mapping]] = ...) -> None: ...

class HintStart(_message.Message):
    __slots__ = ("node", "place", "now", "ready_s", "breakdown")
    NODE_FIELD_NUMBER: _ClassVar[int]
    PLACE_FIELD_NUMBER: _ClassVar[int]
    NOW_FIELD_NUMBER: _ClassVar[int]
    READY_S_FIELD_NUMBER: _ClassVar[int]
    BREAKDOWN_FIELD_NUMBER: _ClassVar[int]
    node: str
    place: str
    now: bool
    ready_s: float
    breakdown: HintBreakdown
    def __init__(self, node: _Optional[str] = ..., place: _Optional[str] = ..., now: _Optional[bool] = ..., ready_s: _Optional[float] = ..., breakdown: _Optional[_Union[HintBreakdown, _Mapping]] = ...) -> None: ...

class HintSeconds(_message.Message):
    __slots__ = ("p50", "p90")
    P50_FIELD_NUMBER: _ClassVar[int]
    P90_FIELD_NUMBER: _ClassVar[int]
    p50: float
    p90: float
    def __init__(self, p50: _Optional[float] = ..., p90: _Optional[float] = ...) -> None: ...

class HintNode(_message.Message):
    __slots__ = ("node", "rank", "score", "ready_s", "breakdown", "bytes", "inflight", "fits", "topology", "cost", "confidence", "age_s")
    NODE_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    READY_S_FIELD_NUMBER: _ClassVar[int]
    BREAKDOWN_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    INFLIGHT_FIELD_NUMBER: _ClassVar[int]
    FITS_FIELD_NUMBER: _ClassVar[int]
    TOPOLOGY_FIELD_NUMBER: _ClassVar[int]
    COST_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    AGE_S_FIELD_NUMBER: _ClassVar[int]
    node: str
    rank: int
    score: float
    ready_s: HintSeconds
    breakdown: HintBreakdown
    bytes: HintBytes
    inflight: _containers.RepeatedCompositeFieldContainer[HintInflight]
    fits: HintFits
    topology: HintPlace
    cost: HintCost
    confidence: float
    age_s: float
    def __init__(self, node: _Optional[str] = ..., rank: _Optional[int] = ..., score: _Optional[float] = ..., ready_s: _Optional[_Union[HintSeconds, _Mapping]] = ..., breakdown: _Optional[_Union[HintBreakdown, _Mapping]] = ..., bytes: _Optional[_Union[HintBytes, _Mapping]] = ..., inflight: _Optional[_Iterable[_Union[HintInflight, _Mapping]]] = ..., fits: _Optional[_Union[HintFits, _Mapping]] = ..., topology: _Optional[_Union[HintPlace, _Mapping]] = ..., cost: _Optional[_Union[HintCost, _Mapping]] = ..., confidence: _Optional[float] = ..., age_s: _Optional[float] = ...) -> None: ...

class HintBreakdown(_message.Message):
    __slots__ = ("slot_s", "image_s", "data_s", "load_s", "init_s", "bottleneck")
    SLOT_S_FIELD_NUMBER: _ClassVar[int]
    IMAGE_S_FIELD_NUMBER: _ClassVar[int]
    DATA_S_FIELD_NUMBER: _ClassVar[int]
    LOAD_S_FIELD_NUMBER: _ClassVar[int]
    INIT_S_FIELD_NUMBER: _ClassVar[int]
    BOTTLENECK_FIELD_NUMBER: _ClassVar[int]
    slot_s: float
    image_s: float
    data_s: float
    load_s: float
    init_s: float
    bottleneck: str
    def __init__(self, slot_s: _Optional[float] = ..., image_s: _Optional[float] = ..., data_s: _Optional[float] = ..., load_s: _Optional[float] = ..., init_s: _Optional[float] = ..., bottleneck: _Optional[str] = ...) -> None: ...

class HintBytes(_message.Message):
    __slots__ = ("total", "gpu", "dram", "dram_far", "nvme", "inflight", "peer_rack", "peer_zone", "peer_remote", "origin")
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    GPU_FIELD_NUMBER: _ClassVar[int]
    DRAM_FIELD_NUMBER: _ClassVar[int]
    DRAM_FAR_FIELD_NUMBER: _ClassVar[int]
    NVME_FIELD_NUMBER: _ClassVar[int]
    INFLIGHT_FIELD_NUMBER: _ClassVar[int]
    PEER_RACK_FIELD_NUMBER: _ClassVar[int]
    PEER_ZONE_FIELD_NUMBER: _ClassVar[int]
    PEER_REMOTE_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    total: int
    gpu: int
    dram: int
    dram_far: int
    nvme: int
    inflight: int
    peer_rack: int
    peer_zone: int
    peer_remote: int
    origin: int
    def __init__(self, total: _Optional[int] = ..., gpu: _Optional[int] = ..., dram: _Optional[int] = ..., dram_far: _Optional[int] = ..., nvme: _Optional[int] = ..., inflight: _Optional[int] = ..., peer_rack: _Optional[int] = ..., peer_zone: _Optional[int] = ..., peer_remote: _Optional[int] = ..., origin: _Optional[int] = ...) -> None: ...

class HintInflight(_message.Message):
    __slots__ = ("transfer_id", "bytes", "eta_s")
    TRANSFER_ID_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    ETA_S_FIELD_NUMBER: _ClassVar[int]
    transfer_id: str
    bytes: int
    eta_s: float
    def __init__(self, transfer_id: _Optional[str] = ..., bytes: _Optional[int] = ..., eta_s: _Optional[float] = ...) -> None: ...

class HintFits(_message.Message):
    __slots__ = ("ok", "gpus_free", "mig", "numa", "reason")
    OK_FIELD_NUMBER: _ClassVar[int]
    GPUS_FREE_FIELD_NUMBER: _ClassVar[int]
    MIG_FIELD_NUMBER: _ClassVar[int]
    NUMA_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ok: bool
    gpus_free: int
    mig: _containers.RepeatedScalarFieldContainer[str]
    numa: int
    reason: str
    def __init__(self, ok: _Optional[bool] = ..., gpus_free: _Optional[int] = ..., mig: _Optional[_Iterable[str]] = ..., numa: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class HintPlace(_message.Message):
    __slots__ = ("rack", "zone", "region")
    RACK_FIELD_NUMBER: _ClassVar[int]
    ZONE_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    rack: str
    zone: str
    region: str
    def __init__(self, rack: _Optional[str] = ..., zone: _Optional[str] = ..., region: _Optional[str] = ...) -> None: ...

class HintCost(_message.Message):
    __slots__ = ("egress_usd", "gpu_idle_usd")
    EGRESS_USD_FIELD_NUMBER: _ClassVar[int]
    GPU_IDLE_USD_FIELD_NUMBER: _ClassVar[int]
    egress_usd: float
    gpu_idle_usd: float
    def __init__(self, egress_usd: _Optional[float] = ..., gpu_idle_usd: _Optional[float] = ...) -> None: ...

class HintGangPlace(_message.Message):
    __slots__ = ("assignment", "domain", "ready_s", "bottleneck")
    class AssignmentEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ASSIGNMENT_FIELD_NUMBER: _ClassVar[int]
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    READY_S_FIELD_NUMBER: _ClassVar[int]
    BOTTLENECK_FIELD_NUMBER: _ClassVar[int]
    assignment: _containers.ScalarMap[str, str]
    domain: str
    ready_s: HintSeconds
    bottleneck: str
    def __init__(self, assignment: _Optional[_Mapping[str, str]] = ..., domain: _Optional[str] = ..., ready_s: _Optional[_Union[HintSeconds, _Mapping]] = ..., bottleneck: _Optional[str] = ...) -> None: ...

class HintWait(_message.Message):
    __slots__ = ("worth_waiting", "node", "free_in_s", "ready_s", "reservation_token", "expires_at")
    WORTH_WAITING_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    FREE_IN_S_FIELD_NUMBER: _ClassVar[int]
    READY_S_FIELD_NUMBER: _ClassVar[int]
    RESERVATION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    worth_waiting: bool
    node: str
    free_in_s: float
    ready_s: float
    reservation_token: str
    expires_at: str
    def __init__(self, worth_waiting: _Optional[bool] = ..., node: _Optional[str] = ..., free_in_s: _Optional[float] = ..., ready_s: _Optional[float] = ..., reservation_token: _Optional[str] = ..., expires_at: _Optional[str] = ...) -> None: ...

class HintAction(_message.Message):
    __slots__ = ("kind", "dataset", "node", "bytes", "seconds", "job")
    KIND_FIELD_NUMBER: _ClassVar[int]
    DATASET_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    kind: str
    dataset: str
    node: str
    bytes: int
    seconds: float
    job: str
    def __init__(self, kind: _Optional[str] = ..., dataset: _Optional[str] = ..., node: _Optional[str] = ..., bytes: _Optional[int] = ..., seconds: _Optional[float] = ..., job: _Optional[str] = ...) -> None: ...

class Reservation(_message.Message):
    __slots__ = ("token", "nodes", "job_id", "expires_at")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    token: str
    nodes: _containers.RepeatedScalarFieldContainer[str]
    job_id: str
    expires_at: str
    def __init__(self, token: _Optional[str] = ..., nodes: _Optional[_Iterable[str]] = ..., job_id: _Optional[str] = ..., expires_at: _Optional[str] = ...) -> None: ...

class HintOutcome(_message.Message):
    __slots__ = ("hint_id", "node", "ready_s", "phases", "recalled")
    class PhasesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    HINT_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    READY_S_FIELD_NUMBER: _ClassVar[int]
    PHASES_FIELD_NUMBER: _ClassVar[int]
    RECALLED_FIELD_NUMBER: _ClassVar[int]
    hint_id: str
    node: str
    ready_s: float
    phases: _containers.ScalarMap[str, float]
    recalled: HintRecalled
    def __init__(self, hint_id: _Optional[str] = ..., node: _Optional[str] = ..., ready_s: _Optional[float] = ..., phases: _Optional[_Mapping[str, float]] = ..., recalled: _Optional[_Union[HintRecalled, _Mapping]] = ...) -> None: ...

class HintRecalled(_message.Message):
    __slots__ = ("dataset", "breakdown", "reservation_token")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    BREAKDOWN_FIELD_NUMBER: _ClassVar[int]
    RESERVATION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    breakdown: HintBreakdown
    reservation_token: str
    def __init__(self, dataset: _Optional[str] = ..., breakdown: _Optional[_Union[HintBreakdown, _Mapping]] = ..., reservation_token: _Optional[str] = ...) -> None: ...

class HintLearned(_message.Message):
    __slots__ = ("node", "estimated_s", "actual_s", "bottleneck", "error_ratio")
    NODE_FIELD_NUMBER: _ClassVar[int]
    ESTIMATED_S_FIELD_NUMBER: _ClassVar[int]
    ACTUAL_S_FIELD_NUMBER: _ClassVar[int]
    BOTTLENECK_FIELD_NUMBER: _ClassVar[int]
    ERROR_RATIO_FIELD_NUMBER: _ClassVar[int]
    node: str
    estimated_s: float
    actual_s: float
    bottleneck: str
    error_ratio: float
    def __init__(self, node: _Optional[str] = ..., estimated_s: _Optional[float] = ..., actual_s: _Optional[float] = ..., bottleneck: _Optional[str] = ..., error_ratio: _Optional[float] = ...) -> None: ...

class ListReservationsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListReservationsResponse(_message.Message):
    __slots__ = ("reservations",)
    RESERVATIONS_FIELD_NUMBER: _ClassVar[int]
    reservations: _containers.RepeatedCompositeFieldContainer[Reservation]
    def __init__(self, reservations: _Optional[_Iterable[_Union[Reservation, _Mapping]]] = ...) -> None: ...

class ReservationRequest(_message.Message):
    __slots__ = ("token",)
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    token: str
    def __init__(self, token: _Optional[str] = ...) -> None: ...

class ReservationResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StatRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StatResponse(_message.Message):
    __slots__ = ("statistics",)
    STATISTICS_FIELD_NUMBER: _ClassVar[int]
    statistics: str
    def __init__(self, statistics: _Optional[str] = ...) -> None: ...

class WarmRequest(_message.Message):
    __slots__ = ("job", "dataset", "version", "wanted", "rate", "from_peers", "source")
    JOB_FIELD_NUMBER: _ClassVar[int]
    DATASET_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    WANTED_FIELD_NUMBER: _ClassVar[int]
    RATE_FIELD_NUMBER: _ClassVar[int]
    FROM_PEERS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    job: str
    dataset: str
    version: str
    wanted: _containers.RepeatedCompositeFieldContainer[WantedBlocks]
    rate: int
    from_peers: bool
    source: str
    def __init__(self, job: _Optional[str] = ..., dataset: _Optional[str] = ..., version: _Optional[str] = ..., wanted: _Optional[_Iterable[_Union[WantedBlocks, _Mapping]]] = ..., rate: _Optional[int] = ..., from_peers: _Optional[bool] = ..., source: _Optional[str] = ...) -> None: ...

class WantedBlocks(_message.Message):
    __slots__ = ("file_version", "blocks")
    FILE_VERSION_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    file_version: str
    blocks: bytes
    def __init__(self, file_version: _Optional[str] = ..., blocks: _Optional[bytes] = ...) -> None: ...

class WarmResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PinRequest(_message.Message):
    __slots__ = ("pins",)
    PINS_FIELD_NUMBER: _ClassVar[int]
    pins: Pins
    def __init__(self, pins: _Optional[_Union[Pins, _Mapping]] = ...) -> None: ...

class PinResponse(_message.Message):
    __slots__ = ("revision",)
    REVISION_FIELD_NUMBER: _ClassVar[int]
    revision: int
    def __init__(self, revision: _Optional[int] = ...) -> None: ...

class EvictRequest(_message.Message):
    __slots__ = ("file_versions", "only_memory")
    FILE_VERSIONS_FIELD_NUMBER: _ClassVar[int]
    ONLY_MEMORY_FIELD_NUMBER: _ClassVar[int]
    file_versions: _containers.RepeatedScalarFieldContainer[str]
    only_memory: bool
    def __init__(self, file_versions: _Optional[_Iterable[str]] = ..., only_memory: _Optional[bool] = ...) -> None: ...

class EvictResponse(_message.Message):
    __slots__ = ("bytes", "refused")
    BYTES_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    bytes: int
    refused: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, bytes: _Optional[int] = ..., refused: _Optional[_Iterable[str]] = ...) -> None: ...

class ExplainRequest(_message.Message):
    __slots__ = ("file_version",)
    FILE_VERSION_FIELD_NUMBER: _ClassVar[int]
    file_version: str
    def __init__(self, file_version: _Optional[str] = ...) -> None: ...

class ExplainResponse(_message.Message):
    __slots__ = ("tier", "resident", "leased", "pinned", "served_bytes", "filled_bytes")
    class ServedBytesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class FilledBytesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    TIER_FIELD_NUMBER: _ClassVar[int]
    RESIDENT_FIELD_NUMBER: _ClassVar[int]
    LEASED_FIELD_NUMBER: _ClassVar[int]
    PINNED_FIELD_NUMBER: _ClassVar[int]
    SERVED_BYTES_FIELD_NUMBER: _ClassVar[int]
    FILLED_BYTES_FIELD_NUMBER: _ClassVar[int]
    tier: str
    resident: bytes
    leased: bool
    pinned: bool
    served_bytes: _containers.ScalarMap[str, int]
    filled_bytes: _containers.ScalarMap[str, int]
    def __init__(self, tier: _Optional[str] = ..., resident: _Optional[bytes] = ..., leased: _Optional[bool] = ..., pinned: _Optional[bool] = ..., served_bytes: _Optional[_Mapping[str, int]] = ..., filled_bytes: _Optional[_Mapping[str, int]] = ...) -> None: ...

class GetResidentRequest(_message.Message):
    __slots__ = ("file_versions",)
    FILE_VERSIONS_FIELD_NUMBER: _ClassVar[int]
    file_versions: bytes
    def __init__(self, file_versions: _Optional[bytes] = ...) -> None: ...

class GetResidentResponse(_message.Message):
    __slots__ = ("resident",)
    RESIDENT_FIELD_NUMBER: _ClassVar[int]
    resident: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, resident: _Optional[_Iterable[bytes]] = ...) -> None: ...

class DrainRequest(_message.Message):
    __slots__ = ("dry_run",)
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    dry_run: bool
    def __init__(self, dry_run: _Optional[bool] = ...) -> None: ...

class DrainResponse(_message.Message):
    __slots__ = ("blocks", "bytes", "seconds", "done")
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    blocks: int
    bytes: int
    seconds: float
    done: bool
    def __init__(self, blocks: _Optional[int] = ..., bytes: _Optional[int] = ..., seconds: _Optional[float] = ..., done: _Optional[bool] = ...) -> None: ...
