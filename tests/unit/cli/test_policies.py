"""Files of policies as ``cachefs policy set`` reads them; what the guide shows is among them."""

import re
from pathlib import Path

import pytest

from cachefs.cli.policies import _read
from cachefs.coordinator.elastic.forms import parse_change
from cachefs.coordinator.elastic.policies import PolicySet
from cachefs.core.autoscaling import Idle, Scheduled, Target
from cachefs.errors import ConfigError

GUIDE = Path(__file__).parents[3] / "docs" / "ELASTICITY.md"


def read(tmp_path, text):
    path = tmp_path / "policies.yaml"
    path.write_text(text)
    return PolicySet({}, {}).changed(parse_change(_read(path)))


def test_every_policy_of_the_guide_is_one(tmp_path):
    blocks = re.findall(r"```yaml\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    pools, datasets = (read(tmp_path, block) for block in blocks)
    policy = pools.pool_policies()["default"]
    assert [type(rule) for rule in policy.rules] == [Target, Target, Scheduled, Idle]
    assert (policy.least, policy.most, policy.cooldown_seconds) == (0, 8, 60.0)
    idle = datasets.idle_policies()
    assert idle[""].evict_after == 7 * 86400
    assert (idle["team"].demote_after, idle["team/llama"].evict_after) == (3600.0, None)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("pools: {default: {most: 3, rules: [{idle: 1m}], mots: 3}}", "pools.default.mots"),
        ("pools: {default: {most: 3, rules: [{idle: 60}]}}", "pools.default.rules.0.idle"),
        ("pool: {default: {}}", "pool"),
        ("- a", ""),
        ("pools: {default: {most: 3\n", "policies.yaml"),
    ],
)
def test_a_file_that_is_not_right_is_refused_with_the_place(tmp_path, text, where):
    with pytest.raises(ConfigError) as refusal:
        read(tmp_path, text)
    assert where in str(refusal.value)


def test_a_file_that_is_not_there_is_said_to_be_so(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        _read(tmp_path / "none.yaml")
