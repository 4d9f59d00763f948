"""The store: one schema, two engines."""

import threading

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext

from cachefs.coordinator.store import counters, datasets, events, members, residency
from cachefs.coordinator.store import engine as engine_module
from cachefs.coordinator.store.engine import Store
from cachefs.coordinator.store.events import Event
from cachefs.coordinator.store.tables import METADATA
from cachefs.core.blocks import FileVersionId
from cachefs.core.membership import View
from cachefs.core.names import WorkerId
from cachefs.core.residency import Holding
from cachefs.errors import ConfigError, CoordinatorUnavailableError
from tests.integration.coordinator.conftest import declared, member

ONE = WorkerId("one")
FILE = FileVersionId("a" * 40)
BYTES = {"sqlite": "x'01'", "postgresql": "'\\x01'"}


@pytest.fixture
def store(store_url):
    opened = Store(store_url)
    yield opened
    opened.close()


def test_the_migrations_lead_to_the_declared_schema(store):
    with store.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []


def test_a_store_is_opened_again_with_what_it_held(store, store_url):
    with store.write() as connection:
        datasets.add(connection, declared("a/b", pins=("ü",), ttl_seconds=1.5), at=2.0)
    again = Store(store_url)
    with again.read() as connection:
        (found,) = datasets.every(connection)
    again.close()
    assert found == declared("a/b", pins=("ü",), ttl_seconds=1.5)


def test_two_coordinators_may_open_an_empty_store_at_once(store_url):
    opened, failures = [], []

    def open_one():
        try:
            opened.append(Store(store_url))
        except Exception as error:  # noqa: BLE001 - shown by the assertion
            failures.append(error)

    threads = [threading.Thread(target=open_one) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in opened:
        one.close()
    assert failures == []


def test_a_transaction_that_fails_leaves_nothing(store):
    with store.write() as connection:
        datasets.add(connection, declared("a"), at=1.0)

    def add_two():
        with store.write() as connection:
            datasets.add(connection, declared("b"), at=1.0)
            datasets.add(connection, declared("a"), at=1.0)

    with pytest.raises(CoordinatorUnavailableError):
        add_two()
    with store.read() as connection:
        assert datasets.every(connection) == (declared("a"),)


def test_additions_to_a_counter_queue_up(store):
    def add():
        for _ in range(10):
            with store.write() as connection:
                counters.add(connection, "catalogue")

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with store.read() as connection:
        assert counters.read(connection)["catalogue"] == 40


def test_a_view_is_exchanged_only_for_the_one_it_was_made_from(store):
    first = View(1, (member("one"),))
    with store.write() as connection:
        assert members.exchange_view(connection, View(0, ()), first)
    with store.write() as connection:
        assert not members.exchange_view(connection, View(0, ()), View(1, ()))
    with store.read() as connection:
        assert members.view(connection) == first


def test_events_are_numbered_in_order_and_the_oldest_are_deleted(store):
    for number in range(7):
        with store.write() as connection:
            events.add(connection, Event(0, 1.0, "kind", str(number), ""), kept=3)
    with store.read() as connection:
        found = events.after(connection, 0, limit=10)
        assert [(event.id, event.subject) for event in found] == [(5, "4"), (6, "5"), (7, "6")]
        assert [event.id for event in events.after(connection, 6, limit=10)] == [7]


def test_who_follows_residency_by_revision_sees_every_change(store):
    disk = Holding(ONE, FILE, "disk", 0b101)
    with store.write() as connection:
        residency.put(connection, ONE, [disk], whole=True)
        residency.put(connection, ONE, [disk._replace(tier="memory", mask=1)], whole=False)
        residency.put(connection, ONE, [disk._replace(mask=0)], whole=False)
    with store.read() as connection:
        assert residency.report(connection, ONE) == (3, 1)
        assert list(residency.since(connection, ONE, 2)) == [disk._replace(mask=0)]
        assert len(list(residency.since(connection, ONE, 0))) == 2
    with store.write() as connection:
        residency.put(connection, ONE, [], whole=True)
    with store.read() as connection:
        assert residency.report(connection, ONE) == (4, 4)
        assert [held.tier for held in residency.since(connection, ONE, 0)] == ["memory"]


def make_first_store(url):
    """Make a store as the first release did, with a dataset and a worker's report."""
    config = Config()
    config.set_main_option("script_location", "cachefs.coordinator.store:migrations")
    engine = engine_module._open(url)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        for table, values in (
            (
                "datasets",
                """'default/a', 'memory://a', '{}', '[]', '[]', 'pinned', 'default', 1, '["x"]',
                NULL, 2, NULL, 1.0""",
            ),
            ("reports", "'one', 1, 1"),
            ("residency", f"'one', '{FILE}', 'disk', {BYTES[engine.dialect.name]}, 1"),
        ):
            connection.exec_driver_sql(f"INSERT INTO {table} VALUES ({values})")  # noqa: S608 - constants
    engine.dispose()


def test_a_store_of_the_first_schema_is_brought_up_to_date_with_what_it_held(store_url):
    make_first_store(store_url)
    again = Store(store_url)
    with again.read() as connection:
        # Whoever obeys no pins yet says 0, and must hear of those that there are.
        assert counters.read(connection)["pins"] > 0
        (found,) = datasets.every(connection)
        assert (str(found.name), found.pins) == ("a", ("x",))
        assert residency.report(connection, ONE) == (1, 1)
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []
    again.close()


def test_a_newer_schema_is_refused(tmp_path):
    url = f"sqlite:///{tmp_path / 'store.db'}"
    store = Store(url)
    with store.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    store.close()
    with pytest.raises(ConfigError, match="newer cachefs"):
        Store(url)


@pytest.mark.parametrize("url", ["", "nonsense", "sqlite://", "mysql://x/y", "sqlite:///:memory:"])
def test_a_url_of_no_use_is_refused(url):
    with pytest.raises(ConfigError):
        Store(url)


def test_a_database_that_does_not_answer_is_unavailable(tmp_path):
    with pytest.raises(CoordinatorUnavailableError):
        Store(f"postgresql://nobody@/none?host={tmp_path}")
    with pytest.raises(CoordinatorUnavailableError):
        Store(f"sqlite:///{tmp_path / 'no' / 'such' / 'folder.db'}")
