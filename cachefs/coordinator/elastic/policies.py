"""Policies as they are stored: who changes one leaves an event, and a restart changes nothing."""

from collections.abc import Mapping
from dataclasses import dataclass

from cachefs.coordinator.elastic import forms
from cachefs.coordinator.elastic.forms import IdlePolicyForm, PoliciesChangeForm, PoolPolicyForm
from cachefs.coordinator.events import Events
from cachefs.coordinator.store import counters
from cachefs.coordinator.store import policies as rows
from cachefs.coordinator.store.engine import Store
from cachefs.core.autoscaling import Policy
from cachefs.core.idling import IdlePolicy
from cachefs.core.names import parse_name


@dataclass(frozen=True, slots=True)
class PolicySet:
    """All policies that count at one moment."""

    pools: Mapping[str, PoolPolicyForm]
    datasets: Mapping[str, IdlePolicyForm]
    """By scope."""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to be done."""
        return not self.pools and not self.datasets

    def pool_policies(self) -> dict[str, Policy]:
        """Return the pools' policies as the rules want them."""
        return {name: form.value() for name, form in self.pools.items()}

    def idle_policies(self) -> dict[str, IdlePolicy]:
        """Return the policies for idle datasets as the rules want them."""
        return {scope: form.value() for scope, form in self.datasets.items()}

    def changed(self, change: PoliciesChangeForm) -> "PolicySet":
        """Return the policies with a change made to them.

        Raises:
            ConfigError: Something in it makes no sense.
        """
        pools, datasets = dict(self.pools), dict(self.datasets)
        for name, pool in change.pools.items():
            pools.pop(parse_name(name, kind="pool"), None)
            if pool is not None:
                pool.value()
                pools[name] = pool
        for text, idle in change.datasets.items():
            scope = forms.parse_scope(text)
            datasets.pop(scope, None)
            if idle is not None:
                idle.value()
                datasets[scope] = idle
        return PolicySet(pools, datasets)


class Policies:
    """The policies. Safe from any thread."""

    def __init__(self, store: Store, events: Events) -> None:
        """Work on what is stored."""
        self._store = store
        self._events = events

    def every(self) -> PolicySet:
        """Return all policies."""
        with self._store.read() as connection:
            pools = rows.every(connection, "pool")
            datasets = rows.every(connection, "idle")
        return PolicySet(
            {name: forms.decode_pool(text) for name, text in pools.items()},
            {scope: forms.decode_idle(text) for scope, text in datasets.items()},
        )

    def change(self, change: PoliciesChangeForm) -> PolicySet:
        """Set and take away policies: all of it, or nothing.

        Raises:
            ConfigError: Something in it makes no sense.
        """
        new = self.every().changed(change)  # nothing is written that is not right
        with self._store.write() as connection:
            counters.add(connection, "pools")
            for name in change.pools:
                pool = change.pools[name]
                if pool is None:
                    rows.remove(connection, "pool", name)
                else:
                    rows.put(connection, "pool", name, forms.encode(pool))
                told = "none any more" if pool is None else forms.encode(pool)
                self._events.record(connection, "policy-changed", f"pool {name}", told)
            for text, idle in change.datasets.items():
                scope = forms.parse_scope(text)
                if idle is None:
                    rows.remove(connection, "idle", scope)
                else:
                    rows.put(connection, "idle", scope, forms.encode(idle))
                told = "none any more" if idle is None else forms.encode(idle)
                self._events.record(connection, "policy-changed", f"datasets {text}", told)
        return new
