"""The names that expressions of a flow may use, and where each of them means something."""

PLAN_NAMES = ("origin_bytes", "bytes_total", "bytes_cached", "seconds", "egress_usd")
"""``plan.…``: what the planner estimated for the whole run, before it began."""
RUN_NAMES = ("id", "cause")
"""``run.…``."""
FLOW_NAMES = ("name", "namespace")
"""``flow.…``."""
STEP_NAMES = ("state", "outputs", "failure")
"""``steps.ID.…``."""
STATUS_FUNCTIONS = ("always", "succeeded", "failed", "cancelled")
"""Only in ``if``: an ``if`` that has none of them means ``succeeded() && (…)``."""
