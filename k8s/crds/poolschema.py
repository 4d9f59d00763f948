"""The schema of ``kind: CachePool``: a set of workers, their tiers, and who decides how many there are."""

from typing import Any

from cachefs.core.pools import WORKERS_MAX
from cachefs.k8s.crds import forms
from cachefs.k8s.crds.forms import Column, Definition, Document, Rule, Schema
from cachefs.k8s.names import CACHE_POOLS

CONDITIONS = ("Ready", "Scaling")
NAME_LENGTH_MAX = 32
"""Of a pool: what is made for it adds to the name, and a label takes 63 characters."""

_ZONES_MAX = 16
_RULES_MAX = 32
"""The coordinator takes no more of them."""
_LABEL_VALUE = r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"
_SCHEDULE_LENGTH_MAX = 200
_COUNTED = "has(self.workers) || has(self.autoscaling) || has(self.horizontalPodAutoscaler)"
"""Somebody says how many."""


def definition() -> Document:
    """Return what teaches the API server the kind."""
    return Definition(
        kind=CACHE_POOLS,
        short="cpool",
        description="Workers that cache datasets: so many, or one on each node, with tiers of memory and disk.",
        spec=_spec(),
        status=_status(),
        columns=(
            Column("Phase", ".status.phase"),
            Column("Workers", ".status.workers", "integer", "How many live."),
            Column("Wanted", ".status.wanted", "integer", "How many there shall be."),
            Column("Used", ".status.usedText"),
            Column("Capacity", ".status.capacityText"),
            Column("Mode", ".spec.mode", is_wide=True),
            Column("Exclusive to", ".spec.exclusiveTo", is_wide=True),
            forms.AGE,
        ),
        scale={
            "specReplicasPath": ".spec.workers",
            "statusReplicasPath": ".status.workers",
            "labelSelectorPath": ".status.selector",
        },
        rules=(
            Rule(
                f"self.metadata.name.size() <= {NAME_LENGTH_MAX} && !self.metadata.name.contains('.')",
                f"a pool's name has at most {NAME_LENGTH_MAX} characters, and no dot",
            ),
        ),
    ).document()


def _spec() -> Schema:
    return forms.fields(
        "What is wanted.",
        {
            "mode": forms.choice(
                "Workers: a StatefulSet with so many. PerNode: a DaemonSet with one on each node that fits.",
                "Workers",
                "PerNode",
                default="Workers",
                **forms.rules(Rule("self == oldSelf", "a pool keeps its mode: make another pool")),
            ),
            "workers": forms.whole(
                "How many workers. `kubectl scale` and autoscalers write it. A change is what the pool wants from "
                "then on; a flow, a policy or `cachefs scale` may want something else later.",
                0,
                WORKERS_MAX,
            ),
            "tiers": _tiers(),
            "zones": forms.members(
                "Zones (topology.kubernetes.io/zone) over which the workers are spread evenly; with mode PerNode, "
                "those whose nodes have workers.",
                forms.text(
                    "A zone.", most=forms.NAME_LENGTH_MAX, pattern=_LABEL_VALUE, minLength=1
                ),
                most=_ZONES_MAX,
            ),
            "exclusiveTo": forms.label(
                "The only namespace whose datasets may use it; all may without it."
            ),
            "autoscaling": _autoscaling(),
            "horizontalPodAutoscaler": _horizontal(),
            **_pods(),
            "drainTimeout": forms.duration(
                "How long a worker that leaves may take to hand over what only it holds.",
                default="10m",
            ),
        },
        required=("tiers",),
        **forms.rules(
            Rule(
                "!(has(self.autoscaling) && has(self.horizontalPodAutoscaler))",
                "a pool has one autoscaler: autoscaling or horizontalPodAutoscaler",
            ),
            Rule(
                f"self.mode != 'PerNode' || !({_COUNTED})",
                "with mode PerNode the nodes say how many workers there are: no workers or autoscaler",
            ),
            Rule(
                "self.mode != 'Workers' || has(self.workers) || has(self.autoscaling)",
                "say how many workers: workers, or autoscaling; a horizontalPodAutoscaler begins with workers, and changes it",
                field=".workers",
            ),
            Rule(
                "self.mode != 'PerNode' || self.tiers.all(tier, tier.medium != 'disk' || has(tier.hostPath))",
                "with mode PerNode a disk tier is a folder of the node: hostPath",
            ),
        ),
    )


def _tiers() -> Schema:
    tier = forms.fields(
        "One tier.",
        {
            "medium": forms.choice("memory (of the pod) or disk.", "memory", "disk"),
            "size": forms.size("How much each worker may hold in it."),
            "storageClassName": forms.text(
                "The class of the volume claim of each worker; the cluster's default without it. Disks of the node "
                "are what a cache wants.",
                most=253,
                pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$",
            ),
            "hostPath": forms.text(
                "A folder of the node in place of a claim. It needs a namespace that may have such volumes.",
                most=1024,
                pattern=r"^(/[A-Za-z0-9_-][A-Za-z0-9._-]*)+$",
            ),
        },
        required=("medium", "size"),
        **forms.rules(
            Rule(
                "self.medium == 'disk' || !(has(self.storageClassName) || has(self.hostPath))",
                "a memory tier has neither storageClassName nor hostPath",
            ),
            Rule(
                "!(has(self.storageClassName) && has(self.hostPath))",
                "a disk tier is a claim (storageClassName) or a folder of the node (hostPath)",
            ),
            Rule(
                "self.medium == 'memory' || self == oldSelf",
                "a disk tier stays as it is: make another pool, and move datasets there",
            ),
        ),
    )
    return forms.table(
        "What each worker holds blocks in: memory, disk, or both.",
        tier,
        "medium",
        most=2,
        minItems=1,
        **forms.rules(
            Rule(
                "self.exists(tier, tier.medium == 'disk') == oldSelf.exists(tier, tier.medium == 'disk')",
                "a disk tier is neither added nor taken away: make another pool, and move datasets there",
            ),
        ),
    )


def _autoscaling() -> Schema:
    rule = forms.fields(
        "One rule: a target, a schedule, or idle.",
        {
            "target": forms.fields(
                "As many workers as bring one measure to its target.",
                {
                    "queuedFills": forms.whole(
                        "Blocks that reads wait for, a worker.", 1, 1_000_000
                    ),
                    "capacityPercent": forms.whole("How full the tiers are.", 1, 100),
                    "hitRatioPercent": forms.whole(
                        "How many reads hit, once the tiers are full.", 1, 100
                    ),
                },
                minProperties=1,
                maxProperties=1,
            ),
            "schedule": forms.fields(
                "At least so many workers from one minute to the other, by cron in UTC.",
                {
                    "begins": forms.text(
                        "When it begins: 0 8 * * mon-fri.", most=_SCHEDULE_LENGTH_MAX
                    ),
                    "ends": forms.text(
                        "When it ends: 0 18 * * mon-fri.", most=_SCHEDULE_LENGTH_MAX
                    ),
                    "workers": forms.whole("How many.", 0, WORKERS_MAX),
                },
                required=("begins", "ends", "workers"),
            ),
            "idle": forms.duration("No worker at all, once nothing was read for so long."),
        },
        minProperties=1,
        maxProperties=1,
    )
    return forms.fields(
        "The coordinator says how many workers there shall be: by what readers wait for, by how full the tiers are, "
        "by the hour.",
        {
            "min": forms.whole("How few; fewer only when idle.", 0, WORKERS_MAX, default=1),
            "max": forms.whole("How many.", 1, WORKERS_MAX),
            "cooldown": forms.duration("Between two changes.", default="1m"),
            "calm": forms.duration(
                "The pool shrinks when less was enough for so long.", default="5m"
            ),
            "rules": forms.listing(
                "Each recommends a number; the highest counts.", rule, most=_RULES_MAX, minItems=1
            ),
        },
        required=("max", "rules"),
        **forms.rules(
            Rule(
                "self.min <= self.max",
                "min is at most max",
                field=".max",
            )
        ),
    )


def _horizontal() -> Schema:
    return forms.fields(
        "A HorizontalPodAutoscaler says how many workers there shall be.",
        {
            "minReplicas": forms.whole("How few.", 1, WORKERS_MAX, default=1),
            "maxReplicas": forms.whole("How many.", 1, WORKERS_MAX),
            "metrics": forms.listing(
                "What it looks at, as autoscaling/v2 has it: CPU where nothing is said.",
                forms.free("A metric of autoscaling/v2."),
                most=16,
            ),
        },
        required=("maxReplicas",),
        **forms.rules(
            Rule("self.minReplicas <= self.maxReplicas", "minReplicas is at most maxReplicas")
        ),
    )


def _pods() -> dict[str, Schema]:
    quantity: dict[str, Any] = {  # Any: a schema
        "description": "A quantity: 500m, 4, 16Gi.",
        "anyOf": [{"type": "integer"}, {"type": "string"}],
        "x-kubernetes-int-or-string": True,
        "pattern": r"^[0-9]+(\.[0-9]+)?(m|Ki|Mi|Gi|Ti|Pi|Ei|k|M|G|T|P|E)?$",
        "maxLength": 32,
    }
    word = forms.text("A word.", most=316)
    toleration = forms.fields(
        "A taint that workers bear.",
        {
            "key": word,
            "operator": forms.choice("Exists, or Equal.", "Exists", "Equal"),
            "value": word,
            "effect": forms.choice("Which effect.", "NoSchedule", "PreferNoSchedule", "NoExecute"),
            "tolerationSeconds": forms.whole("For how long.", 0, 2**63 - 1),
        },
    )
    return {
        "nodeSelector": forms.mapping(
            "Labels of the nodes that workers run on.",
            forms.text("The label's value.", most=forms.NAME_LENGTH_MAX, pattern=_LABEL_VALUE),
            most=32,
        ),
        "tolerations": forms.listing("Taints that workers bear.", toleration, most=64),
        "affinity": forms.free("Affinity of the workers' pods, as Kubernetes has it."),
        "resources": forms.fields(
            "What a worker's container asks for and may have. Its memory tier is added to the memory.",
            {
                "requests": forms.mapping("What it asks for.", quantity, most=16),
                "limits": forms.mapping("What it may have.", quantity, most=16),
            },
        ),
        "priorityClassName": forms.text("The priority of the workers' pods.", most=253),
    }


def _status() -> Schema:
    short = 128
    return forms.fields(
        "What is.",
        {
            "observedGeneration": forms.generation(),
            "phase": forms.text("The state in one word.", most=64),
            "workers": forms.whole("How many workers live.", 0, 2**31 - 1),
            "wanted": forms.whole("How many there shall be, whoever said so.", 0, 2**31 - 1),
            "appliedWorkers": forms.whole(
                "The spec's workers that the pool was told last.", 0, 2**31 - 1
            ),
            "selector": forms.text(
                "The selector of the workers' pods, for autoscalers.", most=1024
            ),
            "capacityBytes": forms.count("What the tiers of all workers can hold."),
            "usedBytes": forms.count("What they hold."),
            "capacityText": forms.text("The capacity for people: 1.2 TiB.", most=short),
            "usedText": forms.text("What is used, for people.", most=short),
            "conditions": forms.conditions(*CONDITIONS),
        },
    )
