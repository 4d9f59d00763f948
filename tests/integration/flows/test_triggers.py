"""Triggers: a timetable, a new version, a webhook; each cause starts one run, whoever looks, how often."""

import os

import httpx
import pytest
from sqlalchemy import Text

from cachefs.config.schema import ClusterConfig, CoordinatorConfig
from cachefs.config.secrets import Secret
from cachefs.coordinator.process import CoordinatorProcess
from cachefs.coordinator.store.tables import DATASETS, MANIFESTS, VERSIONS
from cachefs.core.tenants import Tenants
from cachefs.dataflow.serving.duty import FlowDuty
from cachefs.dataflow.triggers.firing import Triggers
from cachefs.dataflow.triggers.registering import Register
from cachefs.errors import ConfigError, DeniedError, NotAllowedError, NotKnownError
from cachefs.transport.runtime import ThreadRuntime
from cachefs.wire import failures
from tests.integration.flows.engines import Acting, Effects, flow, step
from tests.integration.flows.test_routes import wait

RUNTIME = ThreadRuntime()
MIDNIGHT = 1_800_057_600.0  # 2027-01-16 00:00 UTC


class Calendar(ThreadRuntime):
    """The real runtime at a day of the test's choice."""

    today = MIDNIGHT

    def wall(self):
        return self.today


class Events:
    """What the coordinator's events were told."""

    def __init__(self):
        self.told = []

    def record(self, _, kind, subject, message):
        self.told.append((kind, subject, message))


class Watch:
    """Triggers that look when the test says so; runs are submitted and not carried out."""

    def __init__(self, kit, *, tenants=None, environment=None):
        tenants = tenants or Tenants()
        self.runtime = Calendar()
        self.service = kit.service
        self.events = Events()
        self.register = Register(kit.store, self.runtime, kit.service, tenants=tenants)
        self.triggers = Triggers(
            kit.store,
            self.runtime,
            kit.service,
            self.register,
            events=self.events,
            environment=environment or {},
            tenants=tenants,
        )

    def causes(self):
        return [run.cause for run in self.service.every(limit=100)]


@pytest.fixture
def watch(kit):
    return Watch(kit)


def on(*triggers, head=""):
    listed = "\n".join(f"  - {{{one}}}" for one in triggers)
    return flow(step("a", "rest", "60"), head=f"{head}\n  triggers:\n{listed}")


def test_a_timetable_starts_a_run_each_time_once(watch):
    watch.register.add(on('cron: "0 3 * * *"'), {})
    watch.triggers.tick()
    assert watch.causes() == []
    watch.runtime.today = MIDNIGHT + 3 * 3600
    watch.triggers.tick()
    watch.triggers.tick()
    assert watch.causes() == [f"cron {int(MIDNIGHT + 3 * 3600)}"]
    watch.runtime.today += 86400
    watch.triggers.tick()
    assert len(watch.causes()) == 2


def test_what_was_missed_while_nobody_looked_is_made_up_for_once(watch):
    watch.register.add(on('cron: "*/10 * * * *"'), {})
    watch.runtime.today = MIDNIGHT + 86400 + 60
    watch.triggers.tick()
    assert watch.causes() == [f"cron {int(MIDNIGHT + 86400)}"]


def test_a_clock_that_is_set_back_starts_nothing_twice(watch):
    watch.register.add(on('cron: "0 * * * *"'), {})
    watch.runtime.today = MIDNIGHT + 3600
    watch.triggers.tick()
    watch.runtime.today = MIDNIGHT + 1800
    watch.triggers.tick()
    watch.runtime.today = MIDNIGHT + 3605
    watch.triggers.tick()
    assert len(watch.causes()) == 1


def test_two_coordinators_start_one_run(kit, watch):
    watch.register.add(on('cron: "0 * * * *"'), {})
    other = Watch(kit)
    for each in (watch, other):
        each.runtime.today = MIDNIGHT + 3600
    # The other one has looked before we noted that we started the run.
    (row,) = watch.register.get("team/test").triggers
    watch.triggers.tick()
    other.triggers._look_at_clock(row)
    assert len(watch.causes()) == 1


def test_a_flow_that_cannot_be_started_is_told_and_not_tried_for_ever(watch):
    head = "  concurrency: {group: one, policy: reject}"
    watch.register.add(on('cron: "0 * * * *"', head=head), {})
    for hour in (1, 2):
        watch.runtime.today = MIDNIGHT + hour * 3600
        watch.triggers.tick()
    watch.triggers.tick()
    assert len(watch.causes()) == 1
    ((kind, subject, message),) = watch.events.told
    assert (kind, subject) == ("flow-not-started", "team/test")
    assert "not over" in message


def test_a_flow_that_is_registered_again_goes_on_from_where_it_was(watch):
    first = watch.register.add(on('cron: "0 3 * * *"', "webhook: {}"), {})
    watch.runtime.today = MIDNIGHT + 7200
    second = watch.register.add(on('cron: "0 3 * * *"', "webhook: {}", 'cron: "0 5 * * *"'), {})
    positions = [row.position for row in second.flow.triggers]
    assert positions == [MIDNIGHT, MIDNIGHT, MIDNIGHT + 7200]
    assert first.token
    assert not second.token
    watch.triggers.tick()
    assert watch.triggers.admits("/v1/hooks/team/test", first.token)
    assert not watch.triggers.admits("/v1/hooks/team/other", first.token)
    assert not watch.triggers.admits("/v1/runs", first.token)
    watch.register.remove("team/test")
    watch.triggers.tick()
    assert not watch.triggers.admits("/v1/hooks/team/test", first.token)
    with pytest.raises(NotKnownError):
        watch.register.remove("team/test")


def test_a_flow_that_only_people_start_is_not_registered(watch):
    with pytest.raises(ConfigError, match="person"):
        watch.register.add(on("manual: {}"), {})


NARROW = Tenants(trusted=["platform"])
SECRET = "webhook: {secret: env:HOOK}"


def declare(kit, name, version):
    """Have the store say that a dataset has a version; what else it says is nothing to triggers."""
    known = {"name": name, "dataset": name, "id": version, "encoded": b"", "number": 1}
    with kit.store.write() as connection:
        for table in (DATASETS, MANIFESTS, VERSIONS):
            empty = {one.name: "{}" if isinstance(one.type, Text) else 0 for one in table.columns}
            row = {key: known.get(key, value) for key, value in empty.items()}
            connection.execute(table.insert().values(**row))


@pytest.mark.parametrize("namespace", ["team", "team-a"])
@pytest.mark.parametrize("trigger", ["event: {dataset: team-b/secret}", SECRET])
def test_what_is_not_for_a_namespace_is_not_registered(kit, trigger, namespace):
    watch = Watch(kit, tenants=NARROW, environment={"HOOK": "t"})
    document = on("webhook: {}", trigger).replace("namespace: team", f"namespace: {namespace}")
    with pytest.raises(NotAllowedError) as denied:
        watch.register.add(document, {})
    if trigger == SECRET:
        assert "leave `secret` out" in denied.value.hint
    assert watch.register.every() == ()


def test_a_namespace_may_wait_for_its_own_and_has_a_token_made(kit):
    watch = Watch(kit, tenants=NARROW)
    made = watch.register.add(on("event: {dataset: own}", "webhook: {}"), {})
    declare(kit, "team/own", "a" * 40)
    watch.triggers.tick()
    assert watch.causes() == [f"event team/own@{'a' * 40}"]
    assert watch.triggers.admits("/v1/hooks/team/test", made.token)


def test_what_was_registered_before_tenants_were_narrowed_does_not_fire(kit):
    before = Watch(kit, environment={"HOOK": "t"})
    before.register.add(on("event: {dataset: team-b/secret}", SECRET, 'cron: "0 3 * * *"'), {})
    before.triggers.tick()
    assert before.triggers.admits("/v1/hooks/team/test", "t")
    declare(kit, "team-b/secret", "a" * 40)
    after = Watch(kit, tenants=NARROW, environment={"HOOK": "t"})
    after.runtime.today = MIDNIGHT + 3 * 3600
    after.triggers.tick()
    assert after.causes() == [f"cron {int(MIDNIGHT + 3 * 3600)}"]
    assert not after.triggers.admits("/v1/hooks/team/test", "t")
    assert after.events.told == []
    before.triggers.tick()
    assert f"event team-b/secret@{'a' * 40}" in before.causes()


def secrets_that_cannot_be_read(folder):
    os.mkfifo(folder / "pipe")
    (folder / "long").write_text("x" * 5000)
    (folder / "bytes").write_bytes(b"\xff")
    (folder / "empty").touch()
    files = [folder / "pipe", folder / "long", folder / "bytes", folder / "empty", folder]
    return [*(f"file:{each}" for each in files), "file:/dev/zero", "env:NONE"]


def test_a_secret_that_cannot_be_read_stops_no_other_flow(kit, tmp_path):
    (tmp_path / "token").write_text("mine\n")
    watch = Watch(kit)
    others = []
    for number, secret in enumerate(secrets_that_cannot_be_read(tmp_path)):
        document = on(f"webhook: {{secret: '{secret}'}}")
        name = f"a{number}"
        watch.register.add(document.replace("name: test", f"name: {name}"), {})
        others.append(f"/v1/hooks/team/{name}")
    watch.register.add(on(f"webhook: {{secret: 'file:{tmp_path}/token'}}", 'cron: "0 3 * * *"'), {})
    watch.runtime.today = MIDNIGHT + 3 * 3600
    looking = watch.runtime.start("looking", watch.triggers.tick)
    assert looking.join(10.0)
    assert len(watch.causes()) == 1
    assert watch.triggers.admits("/v1/hooks/team/test", "mine")
    for path in others:
        assert not watch.triggers.admits(path, "t"), path
        assert not watch.triggers.admits(path, ""), path


def test_a_flow_that_meets_a_bug_stops_no_other(kit, watch, monkeypatch):
    for name in ("a", "b"):
        document = on('cron: "0 3 * * *"').replace("name: test", f"name: {name}")
        watch.register.add(document, {})
    known = watch.register.get

    def get(name):
        if name == "team/a":
            raise ValueError("a bug")
        return known(name)

    monkeypatch.setattr(watch.register, "get", get)
    watch.runtime.today = MIDNIGHT + 3 * 3600
    watch.triggers.tick()
    assert [run.flow for run in watch.service.every(limit=100)] == ["team/b"]


@pytest.fixture
def process(tmp_path):
    effects = Effects(tmp_path / "effects.db")
    config = CoordinatorConfig(store_url=f"sqlite:///{tmp_path / 'store.db'}")

    def open_flows(parts):
        return FlowDuty(
            parts, lambda _: {"process": Acting(effects)}, environment={"HOOK": "the hook's own"}
        )

    with CoordinatorProcess(config, ClusterConfig(), Secret("t"), duties=[open_flows]) as running:
        yield running


@pytest.fixture
def http(process):
    with httpx.Client(
        base_url=f"http://{process.http_address}",
        headers={"Authorization": "Bearer t"},
        trust_env=False,
    ) as client:
        yield client


def runs_of(http, count):
    until = RUNTIME.monotonic() + 10.0
    while len(found := http.get("/v1/runs").json()["runs"]) < count:
        assert RUNTIME.monotonic() < until, found
        RUNTIME.sleep(0.05)
    return found


def test_each_new_version_of_a_dataset_starts_one_run(http, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "model").write_bytes(b"one")
    body = {"name": "team/model", "origin": {"url": f"file://{tmp_path / 'data'}"}}
    http.post("/v1/datasets", json=body)
    document = flow(
        step("a", '"${params.verb}"'),
        head="""  params: {verb: fail, name: model}
  triggers: [{event: {dataset: "${params.name}", params: {verb: do}}}]""",
    )
    registered = http.post("/v1/flows", json={"document": document})
    assert registered.status_code == 201
    # A dataset without a namespace is in the flow's.
    spec = {"dataset": "team/model", "params": {"verb": "do"}}
    assert registered.json()["triggers"] == [{"kind": "event", "spec": spec}]
    RUNTIME.sleep(1.2)
    assert http.get("/v1/runs").json()["runs"] == []
    (tmp_path / "data" / "model").write_bytes(b"another")
    version = http.post("/v1/datasets/team/model/update").json()["id"]
    (run,) = runs_of(http, 1)
    assert run["cause"] == f"event team/model@{version}"
    assert wait(http, run["id"])["run"]["state"] == "Succeeded"
    http.post("/v1/datasets/team/model/update")
    RUNTIME.sleep(1.2)
    assert len(http.get("/v1/runs").json()["runs"]) == 1
    assert http.delete("/v1/flows/team/test").status_code == 204
    assert http.get("/v1/flows").json()["flows"] == []


def test_a_webhook_has_a_token_of_its_own_that_opens_nothing_else(process, http):
    document = flow(
        step("a", '"${params.verb}"'),
        head="""  params: {verb: fail}
  triggers: [{webhook: {params: {verb: "${trigger.body.verb}"}}}]""",
    )
    made = http.post("/v1/flows", json={"document": document}).json()
    again = http.post("/v1/flows", json={"document": document}).json()
    assert made["hook"] == "/v1/hooks/team/test"
    assert again["token"] == ""
    url = f"http://{process.http_address}"
    hook = {"Authorization": f"Bearer {made['token']}"}
    until = RUNTIME.monotonic() + 5.0
    while (
        called := httpx.post(
            url + made["hook"],
            headers={**hook, "Idempotency-Key": "k"},
            json={"verb": "do"},
            trust_env=False,
        )
    ).status_code == 401:
        assert RUNTIME.monotonic() < until
    assert called.status_code == 202
    assert wait(http, called.json()["id"])["run"]["state"] == "Succeeded"
    twice = httpx.post(
        url + made["hook"],
        headers={**hook, "Idempotency-Key": "k"},
        json={"verb": "do"},
        trust_env=False,
    )
    assert (twice.status_code, twice.json()["id"]) == (200, called.json()["id"])
    for path in ("/v1/runs", "/v1/hooks/team/other"):
        refused = httpx.get(url + path, headers=hook, trust_env=False)
        assert isinstance(failures.decode(refused.content), DeniedError)
    assert httpx.post(url + made["hook"], trust_env=False).status_code == 401
    assert "digest" not in http.get("/v1/flows").text


def test_a_webhooks_token_may_be_a_secret_of_the_coordinator(process, http):
    document = flow(step("a"), head="  triggers: [{webhook: {secret: env:HOOK}}]")
    assert http.post("/v1/flows", json={"document": document}).json()["token"] == ""
    url = f"http://{process.http_address}/v1/hooks/team/test"
    until = RUNTIME.monotonic() + 5.0
    while True:
        headers = {"Authorization": "Bearer the hook's own"}
        if httpx.post(url, headers=headers, trust_env=False).status_code == 202:
            break
        assert RUNTIME.monotonic() < until
    assert len(runs_of(http, 1)) == 1
