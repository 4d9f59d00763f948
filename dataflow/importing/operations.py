"""Fluid's operations, each as the steps that do what it does.

Paths of a DataLoad begin, in Fluid, with the name of the mount that they are in; here they are relative to
the dataset's origin. If the file has the Dataset too, and that has one mount, its name is taken off.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cachefs.core.urls import split_url
from cachefs.dataflow.importing.parts import Part, shown
from cachefs.dataflow.spec.references import looks_secret
from cachefs.errors import ConfigError

Json = dict[str, Any]  # Any: a JSON document

_SCHEMES = ("s3", "gs", "gcs", "az", "abfs", "oss", "hf", "http", "https", "hdfs", "file")
_PODS = (
    "affinity",
    "tolerations",
    "nodeSelector",
    "schedulerName",
    "podMetadata",
    "resources",
    "imagePullSecrets",
)
_GPU = re.compile(r"[a-z0-9.-]+/gpu")


_PUBLISHED = (
    "nothing is copied to where a dataset has its files: the source becomes a version of the dataset, with a "
    "label, which what runs after it uses; `current: true` has all others see it, too; to copy, write the "
    "other place's URL as externalStorage.uri"
)


@dataclass(slots=True, kw_only=True)
class Operation:
    """A document of Fluid's, and what has become of it."""

    kind: str
    name: str
    namespace: str
    spec: Part
    trigger: Json | None = None
    is_first: bool = True
    """Whether it runs after nothing."""

    @property
    def key(self) -> tuple[str, str, str]:
        """Return what ``runAfter`` calls it."""
        return self.kind, self.namespace, self.name


@dataclass(slots=True)
class Sources:
    """The datasets that the file has, too: of each the name of its only mount."""

    _prefixes: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, spec: Part) -> None:
        """Note a dataset."""
        mounts = spec.parts("mounts")
        if len(mounts) == 1:
            at_root = mounts[0].text("path") == "/"
            self._prefixes[name] = "" if at_root else mounts[0].text("name")

    def relative(self, dataset: str, path: str) -> str:
        """Return a path within the dataset's origin."""
        prefix = self._prefixes.get(dataset, "")
        bare = path.strip("/")
        return bare[len(prefix) :].strip("/") if f"{bare}/".startswith(f"{prefix}/") else bare


@dataclass(slots=True)
class _Making:
    """The steps of one operation."""

    operation: Operation
    namespace: str
    """The flow's."""
    sources: Sources
    params: dict[str, None]

    def dataset(self, part: Part) -> str:
        """Take ``name`` and ``namespace`` of a dataset."""
        name, namespace = part.text("name"), part.text("namespace")
        if not name:
            part.refuse("name", "a dataset without a name")
        return self.named(name, namespace)

    def named(self, name: str, namespace: str = "") -> str:
        """Return a dataset's name as the flow says it."""
        namespace = namespace or self.operation.namespace
        return name if namespace == self.namespace else f"{namespace}/{name}"

    def url(self, part: Part, key: str, role: str) -> str:
        """Take a place to copy from or to; one that is only known to Kubernetes becomes a parameter."""
        text = part.text(key)
        scheme, _, rest = text.partition("://")
        if scheme == "local":
            return f"file://{rest}"
        if scheme in _SCHEMES:
            try:
                host = split_url(text).host
            except ConfigError as error:
                part.refuse(key, error.message, error.hint, secret=True)
                return ""
            if scheme == "s3" and "." in host:
                part.note(
                    f"{scheme}://{host} has an endpoint in it, as JuiceFS writes it: here the host is the "
                    "bucket, and the endpoint is the option endpoint_url"
                )
            return text
        if not text:
            part.refuse(key, "nowhere", "write a URL")
            return ""
        param = re.sub("[^A-Za-z0-9]+", "_", f"{self.operation.name}_{role}").strip("_")
        param = param if param[0].isalpha() else f"at_{param}"
        self.params[param] = None
        part.note(
            f"{scheme}:// is known to Kubernetes only: give the parameter {param} at submission, "
            "as a URL such as s3://BUCKET/FOLDER or file:///FOLDER"
        )
        return f"${{params.{param}}}"


def steps(
    operation: Operation, namespace: str, sources: Sources, params: dict[str, None]
) -> list[Json]:
    """Return the steps of an operation, which have no ids yet.

    Args:
        operation: It.
        namespace: The flow's.
        sources: The datasets of the file.
        params: The flow's parameters; new ones are added.
    """
    spec = operation.spec
    found = KINDS[operation.kind](_Making(operation, namespace, sources, params))
    spec.leave("there are no pods to clean up", "ttlSecondsAfterFinished")
    spec.leave("it is about Fluid's pods", *_PODS)
    return found


def watched(operation: Operation, namespace: str) -> str:
    """Return the dataset whose publication starts an operation with the policy OnEvent."""
    making = _Making(operation, namespace, Sources(), {})
    for keys in (("dataset",), ("from", "dataset"), ("to", "dataset")):
        name, space = _peek(operation.spec, keys)
        if name:
            operation.spec.note(f"its event is that a version of {name} was published")
            return making.named(name, space)
    operation.spec.refuse("policy", "OnEvent without a dataset")
    return ""


def _peek(spec: Part, keys: tuple[str, ...]) -> tuple[str, str]:
    value: Any = spec.peek(keys)  # Any: whatever stands there
    if isinstance(value, Mapping) and isinstance(value.get("name"), str):
        return value["name"], str(value.get("namespace") or "")
    return "", ""


def _data_load(making: _Making) -> list[Json]:
    spec = making.operation.spec
    dataset = spec.part("dataset")
    name = making.dataset(dataset)
    spec.leave("the origin is listed anyway", "loadMetadata")
    spec.leave("they are of Fluid's runtimes", "options")
    by_copies: dict[int, list[str]] = {}
    for target in spec.parts("target"):
        path = making.sources.relative(name.rpartition("/")[2], target.text("path"))
        paths = by_copies.setdefault(target.number("replicas"), [])
        paths.extend([f"/{_literal(path)}", f"{_literal(path)}/**"] if path else ["**"])
    if any(paths != ["**"] for paths in by_copies.values()):
        spec.note("paths are relative to the origin here, without the name of a mount before them")
    found = []
    for copies, paths in (by_copies or {0: []}).items():
        given: Json = {"dataset": name}
        if paths and "**" not in paths:
            given["paths"] = paths
        if copies:
            given["copies"] = copies
        found.append({"kind": "prefetch", "with": given})
    return found


def _literal(path: str) -> str:
    """Return a path as a glob that matches it and nothing else, but for its own ``*``."""
    return re.sub(r"([\[\]?\\])", r"\\\1", path)


def _data_migrate(making: _Making) -> list[Json]:
    spec = making.operation.spec
    spec.leave("readers are not kept out while it copies", "block")
    spec.leave("there is one way to copy", "runtimeType", "options")
    spec.leave("a step's `parallel` says how many files at once", "parallelism", "parallelOptions")
    given: Json = {}
    credentials: dict[str, str] = {}
    for end in ("from", "to"):
        place = spec.part(end)
        dataset, storage = place.part("dataset"), place.part("externalStorage")
        if bool(dataset) == bool(storage):
            place.refuse("", "needs either dataset or externalStorage")
        elif dataset:
            given[end] = f"dataset:{making.dataset(dataset)}"
            if end == "to":
                given[end] += f"@{_label(making.operation.name)}"
                spec.note(_PUBLISHED)
            _folder(dataset, end, given)
        else:
            given[end] = making.url(storage, "uri", end)
            secret = _secrets(making, storage, end)
            if secret:
                credentials[end] = secret
    if credentials:
        given["credentials"] = credentials
    return [{"kind": "migrate", "with": given}]


def _label(name: str) -> str:
    return name[:63].rstrip("-.")


def use_versions(steps: list[Json]) -> None:
    """Have steps use the version that a step before them has made of their dataset.

    What was a dataset's version before stays its current one, for everybody else.
    """
    made: dict[str, dict[str, str]] = {}
    waiting = {step["id"]: step for step in steps}
    while waiting:
        ready = [one for one in waiting.values() if made.keys() >= set(one.get("needs", ()))]
        if not ready:
            return  # they wait for each other, and are refused for that
        for step in ready:
            del waiting[step["id"]]
            known: dict[str, str] = {}
            for need in step.get("needs", ()):
                known.update(made[need])
            given = step["with"]
            for part in (given, *given.get("mounts", ())):
                if part.get("dataset") in known:
                    part["dataset"] += f"@{known[part['dataset']]}"
            prefix, _, source = str(given.get("from", "")).partition("dataset:")
            if not prefix and source in known:
                given["from"] += f"@{known[source]}"
            if str(given.get("to", "")).startswith("dataset:"):
                name, _, label = given["to"].removeprefix("dataset:").partition("@")
                if name:  # what has none is refused for that
                    known[name] = label
            made[step["id"]] = known


def _folder(dataset: Part, end: str, given: Json) -> None:
    path = dataset.text("path").strip("/")
    if path and end == "to":
        dataset.refuse(
            "path", "a dataset is published whole", "write the folder's URL as externalStorage.uri"
        )
    elif path:
        given["include"] = [f"/{_literal(path)}", f"{_literal(path)}/**"]
        dataset.note(f"what is below {path} is copied with its folders")


def _secrets(making: _Making, storage: Part, end: str) -> str:
    """Take the secrets of a place; what stands for them is a prefix of variables."""
    found = []
    for option in storage.parts("encryptOptions"):
        source = option.part("valueFrom").part("secretKeyRef")
        found.append(f"{option.text('name')} of {source.text('name')}/{source.text('key')}")
    if not found:
        return ""
    prefix = re.sub("[^A-Za-z0-9]+", "_", f"{making.operation.name}_{end}").strip("_").upper()
    prefix = prefix if prefix[0].isalpha() else f"AT_{prefix}"
    storage.note(
        f"its secrets ({', '.join(found)}) are read from {prefix}_ACCESS_KEY_ID and "
        f"{prefix}_SECRET_ACCESS_KEY, or {prefix}_TOKEN, in the environment of coordinator and workers"
    )
    return f"env:{prefix}"


def _data_process(making: _Making) -> list[Json]:
    spec = making.operation.spec
    given: Json = {}
    processor = spec.part("processor")
    processor.leave("it is about Fluid's pods", "podMetadata", "serviceAccountName")
    if "script" in processor:
        processor.drop("script")
        processor.refuse(
            "script",
            "a script goes through a shell, and a step has none",
            "put it into a file of the image, and write a job with command: [bash, /FILE]",
        )
    elif "job" in processor:
        given.update(_program(processor.part("job").part("podSpec")))
    else:
        processor.refuse("", "needs job")
    dataset = spec.part("dataset")
    if dataset:
        mount = {"dataset": making.dataset(dataset), "path": dataset.text("mountPath")}
        if dataset.text("subPath").strip("/"):
            dataset.refuse(
                "subPath", "a dataset is mounted whole", "read from the folder below mountPath"
            )
        given["mounts"] = [mount]
        spec.note(
            "where processes run on the coordinator's machine, the dataset is mounted there, at the same path: "
            "the folder must be empty, or one that the coordinator's user may make"
        )
    return [{"kind": "process", "with": given}]


def _program(pod: Part) -> Json:
    containers = pod.parts("containers")
    if "initContainers" in pod:
        pod.drop("initContainers")
        pod.refuse("initContainers", "a step is one program", "write a DataProcess for each")
    if len(containers) != 1:
        pod.refuse("containers", f"{len(containers)} containers, and a step is one program")
        return {}
    pod.leave("a step has `retry` for that", "restartPolicy")
    pod.leave("only datasets are mounted, by `mounts`", "volumes")
    container = containers[0]
    container.drop("name")
    container.leave("it is the cluster's to say", "imagePullPolicy")
    container.leave("only datasets are mounted, by `mounts`", "volumeMounts")
    command, arguments = container.texts("command"), container.texts("args")
    if not command:
        container.refuse(
            "command", "a job without a command", "write what the image would run: [PROGRAM, …]"
        )
    if any("$(" in one for one in (*command, *arguments)):
        container.note("$(NAME) in a command stays as it is: nothing puts a variable's value there")
    given: Json = {"command": [*command, *arguments]}
    for key, name in (("image", "image"), ("workingDir", "workdir")):
        value = container.text(key)
        if value:
            given[name] = value
    given.update(_variables(container))
    resources = _resources(container.part("resources"))
    return {**given, **({"resources": resources} if resources else {})}


def _variables(container: Part) -> Json:
    env: dict[str, str] = {}
    secrets: dict[str, str] = {}
    for variable in container.parts("env"):
        name, origin = variable.text("name"), variable.part("valueFrom")
        if "secretKeyRef" in origin:
            secret = origin.part("secretKeyRef")
            where = f"{secret.text('name')}/{secret.text('key')}"
            secrets[name] = f"env:{name}"
            container.note(f"{name}, the secret {where}, is read from {name} where processes run")
        elif origin:
            kinds = ", ".join(origin.names())
            origin.drop(*origin.names())
            variable.refuse("valueFrom", f"{shown(kinds)} has no counterpart", "write its value")
        elif looks_secret(name):
            variable.drop("value")
            secrets[name] = f"env:{name}"
            container.note(
                f"{name} looks like a secret: it is read from {name} where processes run"
            )
        else:
            env[name] = variable.text("value")
    return {**({"env": env} if env else {}), **({"secrets": secrets} if secrets else {})}


def _resources(resources: Part) -> Json:
    found: Json = {}
    for of in (resources.part("requests"), resources.part("limits")):
        for name in of.names():
            if name == "cpu":
                found["cpu"] = _cores(of)
            elif name == "memory":
                found["memory"] = of.text("memory")
            elif _GPU.fullmatch(name):
                found["gpu"] = of.number(name)
    return found


def _cores(part: Part) -> float:
    text = part.text("cpu")
    try:
        return float(text[:-1]) / 1000 if text.endswith("m") else float(text)
    except ValueError:
        part.refuse("cpu", f"not a number of cores: {shown(text)}")
        return 0.0


def _data_backup(making: _Making) -> list[Json]:
    spec = making.operation.spec
    spec.leave("the workers' user reads, and the platform's credentials write", "runAs")
    spec.note(
        "Fluid backs up what a runtime knows of the files; here the files themselves are copied"
    )
    name = spec.text("dataset")
    if not name:
        spec.refuse("dataset", "a backup without a dataset")
    given = {"dataset": making.named(name), "to": making.url(spec, "backupPath", "to")}
    return [{"kind": "backup", "with": given}]


KINDS: Mapping[str, Callable[[_Making], list[Json]]] = {
    "DataLoad": _data_load,
    "DataMigrate": _data_migrate,
    "DataProcess": _data_process,
    "DataBackup": _data_backup,
}
