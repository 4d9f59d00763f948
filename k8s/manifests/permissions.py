"""Rights: what each component may do at the API server, and why.

The reasons are kept beside the rules, and documents are made of both, so that neither can be changed without
the other. A component that is not named here has no right at all, and no token of its service account:
coordinator, workers, mounts and webhook.

What is on every node reads one kind of ours at the API server, and writes nothing there. But it has the cluster's
token, which the coordinator takes for everything: whoever takes over a node can read every dataset, and declare,
drain and submit. The rights of the operator they do not get by it: it carries out only what an object of the very
namespace wants (:mod:`cachefs.k8s.operator.programs.belonging`). The operator, of which there is one, writes; what
it writes cluster-wide is what users asked for in their namespaces.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from cachefs.k8s.installation import Installation
from cachefs.k8s.manifests.parts import Document, headed
from cachefs.k8s.manifests.webhook import AUTHORITY, SECRET
from cachefs.k8s.names import GROUP
from cachefs.k8s.observing.token import SECRET as METRICS_SECRET

READ = ("get", "list", "watch")
EVERYWHERE = "cluster"
SYSTEM = "system namespace"
BOTH = "both namespaces"
_VALUES = {"csi": "csi.enabled", "webhook": "webhook.enabled", "programs": "flows.programs"}
"""What a rule may need, as a file of values has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Verbs on resources of one API group."""

    group: str
    resources: Sequence[str]
    verbs: Sequence[str]
    names: Sequence[str] = ()
    """Only objects of these names; empty for all."""
    where: str
    """:data:`EVERYWHERE`, :data:`SYSTEM` or :data:`BOTH`."""
    why: str
    needs: str = ""
    """``csi``, ``webhook`` or ``programs``: given only where that is wanted."""


OPERATOR: tuple[Rule, ...] = (
    Rule(
        group=GROUP,
        resources=("datasets", "cachepools", "flows", "flowruns"),
        verbs=READ,
        where=EVERYWHERE,
        why="they say what is wanted",
    ),
    Rule(
        group=GROUP,
        resources=("datasets/status", "cachepools/status", "flows/status", "flowruns/status"),
        verbs=("patch",),
        where=EVERYWHERE,
        why="to say what is there, and what is wrong",
    ),
    Rule(
        group="",
        resources=("events",),
        verbs=("create",),
        where=EVERYWHERE,
        why="to tell beside an object what was done for it",
    ),
    Rule(
        group="",
        resources=("persistentvolumes",),
        verbs=("get", "list", "create", "patch", "delete"),
        where=EVERYWHERE,
        why="a dataset's volume; volumes have no namespace. Only those with our labels are touched",
        needs="csi",
    ),
    Rule(
        group="",
        resources=("persistentvolumeclaims",),
        verbs=("get", "create", "delete"),
        where=EVERYWHERE,
        why="a dataset's claim, in its namespace. Only those with our labels are deleted",
        needs="csi",
    ),
    Rule(
        group="",
        resources=("pods",),
        verbs=(*READ, "patch"),
        where=EVERYWHERE,
        why="to see which datasets pods are about to want, to lift our own scheduling gate from them, "
        "and to see those of flows' programs and rollouts",
    ),
    Rule(
        group="",
        resources=("pods/log",),
        verbs=("get",),
        where=EVERYWHERE,
        why="the last lines of a flow's program, for the run's own log",
        needs="programs",
    ),
    Rule(
        group="batch",
        resources=("jobs",),
        verbs=("get", "list", "create", "delete"),
        where=EVERYWHERE,
        why="a flow's steps of kind `process`, in the flow's namespace",
        needs="programs",
    ),
    Rule(
        group="apps",
        resources=("deployments", "statefulsets"),
        verbs=("get", "patch"),
        where=EVERYWHERE,
        why="a flow's steps of kind `rollout`, in the flow's namespace",
        needs="programs",
    ),
    Rule(
        group="apps",
        resources=("replicasets",),
        verbs=("list",),
        where=EVERYWHERE,
        why="which pods of a deployment are of its newest revision",
        needs="programs",
    ),
    Rule(
        group="kueue.x-k8s.io",
        resources=("workloads",),
        verbs=READ,
        where=EVERYWHERE,
        why="to see what waits for admission by our check",
    ),
    Rule(
        group="kueue.x-k8s.io",
        resources=("admissionchecks",),
        verbs=("list",),
        where=EVERYWHERE,
        why="to see which checks are ours",
    ),
    Rule(
        group="kueue.x-k8s.io",
        resources=("workloads/status", "admissionchecks/status"),
        verbs=("patch",),
        where=EVERYWHERE,
        why="to say that the data is there, or when it will be",
    ),
    Rule(
        group="admissionregistration.k8s.io",
        resources=("mutatingwebhookconfigurations",),
        verbs=("get", "update"),
        names=("cachefs",),
        where=EVERYWHERE,
        why="to renew the bundle of authorities in our own configuration",
        needs="webhook",
    ),
    Rule(
        group="",
        resources=("secrets",),
        verbs=("get", "update"),
        names=(SECRET, AUTHORITY),
        where=SYSTEM,
        why="to renew the webhook's certificate; no other secret can be read",
        needs="webhook",
    ),
    Rule(
        group="",
        resources=("secrets",),
        verbs=("get", "update"),
        names=(METRICS_SECRET,),
        where=SYSTEM,
        why="to give Prometheus a token that opens metrics and nothing else, where it is installed",
    ),
    Rule(
        group="",
        resources=("configmaps",),
        verbs=("get", "update"),
        names=(AUTHORITY,),
        where=SYSTEM,
        why="to publish the bundle of authorities, which is no secret",
        needs="webhook",
    ),
    Rule(
        group="coordination.k8s.io",
        resources=("leases",),
        verbs=("get", "create", "update"),
        where=SYSTEM,
        why="one of the operator's pods leads",
    ),
    Rule(
        group="apps",
        resources=("statefulsets", "daemonsets"),
        verbs=("get", "list", "create", "patch", "delete"),
        where=BOTH,
        why="the workers of pools",
    ),
    Rule(
        group="",
        resources=("services", "configmaps"),
        verbs=("get", "list", "create", "patch", "delete"),
        where=BOTH,
        why="the names and the configuration of workers, and the list of datasets that we declared",
    ),
    Rule(
        group="policy",
        resources=("poddisruptionbudgets",),
        verbs=("get", "list", "create", "patch", "delete"),
        where=BOTH,
        why="one worker of a pool is drained away at a time",
    ),
    Rule(
        group="autoscaling",
        resources=("horizontalpodautoscalers",),
        verbs=("get", "list", "create", "patch", "delete"),
        where=BOTH,
        why="pools that are scaled by metrics of the cluster",
    ),
)

CSI: tuple[Rule, ...] = (
    Rule(
        group=GROUP,
        resources=("datasets",),
        verbs=("get",),
        where=EVERYWHERE,
        why="to see whether a dataset is shared with the namespace of the pod that wants it",
        needs="csi",
    ),
)
RULES: dict[str, tuple[Rule, ...]] = {"operator": OPERATOR, "csi": CSI}


def rules_of(component: str, wanted: Installation) -> list[Rule]:
    """Return the rules that a component has in an installation."""
    given = {
        "": True,
        "csi": wanted.has_csi,
        "webhook": wanted.webhook and not wanted.plain,
        "programs": wanted.has_programs,
    }
    return [rule for rule in RULES.get(component, ()) if given[rule.needs]]


def documents(wanted: Installation) -> list[Document]:
    """Return the roles, and whom they are bound to."""
    found: list[Document] = []
    for component in RULES:
        home = wanted.node_namespace if component == "csi" else wanted.namespace
        rules = rules_of(component, wanted)
        scopes: tuple[tuple[str | None, set[str]], ...] = (
            (None, {EVERYWHERE}),
            (wanted.namespace, {SYSTEM, BOTH}),
            (wanted.node_namespace, {BOTH}),
        )
        for namespace, where in scopes:
            given = [_rule(rule) for rule in rules if rule.where in where]
            if given:
                found += _role(component, home, namespace, given)
    return found


def table() -> str:
    """Return all rules and their reasons, as Markdown."""
    lines = ["| who | may | on | where | why |", "| --- | --- | --- | --- | --- |"]
    for component, rules in RULES.items():
        for rule in rules:
            group = f" ({rule.group})" if rule.group else ""
            only = f", only {', '.join(f'`{name}`' for name in rule.names)}" if rule.names else ""
            resources = ", ".join(f"`{resource}`" for resource in rule.resources)
            needed = f", with `{_VALUES[rule.needs]}`" if rule.needs else ""
            cells = (
                component,
                ", ".join(rule.verbs),
                f"{resources}{group}{only}",
                f"{rule.where}{needed}",
                rule.why,
            )
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _rule(rule: Rule) -> Document:
    found: Document = {
        "apiGroups": [rule.group],
        "resources": list(rule.resources),
        "verbs": list(rule.verbs),
    }
    return {**found, "resourceNames": list(rule.names)} if rule.names else found


def _role(
    component: str, home: str, namespace: str | None, rules: list[Document]
) -> list[Document]:
    """Return a role, of the cluster where no namespace is given, and its binding."""
    api, kind, name = "rbac.authorization.k8s.io/v1", "Role", f"cachefs-{component}"
    prefix = "" if namespace else "Cluster"
    role = headed(api, f"{prefix}{kind}", name, component, namespace)
    binding = headed(api, f"{prefix}{kind}Binding", name, component, namespace)
    return [
        {**role, "rules": rules},
        {
            **binding,
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": f"{prefix}{kind}",
                "name": name,
            },
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": home}],
        },
    ]
