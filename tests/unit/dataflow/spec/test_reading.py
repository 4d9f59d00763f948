"""Reading flows: what is understood, and what is said of what is not."""

import pytest

from cachefs.dataflow.spec.model import Budget, Foreach, Place, Retry
from cachefs.dataflow.spec.problems import At, FlowDocumentError
from cachefs.dataflow.spec.reading import read_flow
from cachefs.errors import ConfigError
from tests.unit.counting import lines_run

HEAD = "apiVersion: cachefs/v1\nkind: Flow\nmetadata: {name: test}\n"


def problems(text):
    with pytest.raises(ConfigError) as caught:
        read_flow(text, name="f.yaml")
    assert isinstance(caught.value, FlowDocumentError)
    assert str(caught.value).splitlines() == [str(one) for one in caught.value.problems]
    return [str(one) for one in caught.value.problems]


def of_steps(*lines, more=""):
    steps = "".join(f"  - {line}\n" for line in lines)
    return f"{HEAD}spec:\n{more}  steps:\n{steps}"


def only(text):
    found = problems(text)
    assert len(found) == 1, found
    return found[0]


GOOD = """\
apiVersion: cachefs/v1
kind: Flow
metadata: {name: deploy-llama-v2, namespace: team-a, labels: {tier: gold}}
spec:
  params: {model: llama-70b, rev: v2, prev: v1, replicas: 100, zones: [a, b]}
  triggers:
  - {manual: {}}
  - {cron: "0 3 * * *"}
  - {event: {dataset: "${params.model}", revision: published}}
  - {webhook: {secret: env:HOOK}}
  concurrency: {group: "deploy-${params.model}", policy: queue}
  budget: {origin_bytes: 400Gi, egress_usd: 20, wall: 2h}
  defaults: {retry: {max: 4, backoff: {base: 5s, factor: 2, max: 5m, jitter: true}, when: [transient]}, timeout: 20m}
  steps:
  - {id: out, kind: scale, with: {dataset: "${params.model}", workers: 6, per_zone: 3}, compensate: {restore: true}}
  - id: copy
    kind: migrate
    needs: [out]
    foreach: {zone: "${params.zones}", max_parallel: 2, fail_fast: false}
    with: {from: "s3://models/${params.model}", to: "dataset:${params.model}@${params.rev}", zone: "${each.zone}", verify: sha256}
    retry: {max: 1, backoff: {factor: 3}}
  - {id: warm, kind: prefetch, needs: [copy], with: {dataset: "${params.model}", paths: ["*.json"], tier: nvme, copies: 3, rate: 10Gb/s, priority: low}}
  - {id: ready, kind: wait, needs: [warm], with: {condition: "cached_fraction >= 1.0 && verified", per: zone}, timeout: 15m}
  - {id: gate, kind: approve, needs: [ready], if: "plan.egress_usd > 10"}
  - id: roll
    kind: rollout
    needs: [ready, gate]
    with: {target: deployment/llama, replicas: "${params.replicas}", surge: 25, batch: [1, 10, 100], hint: {deadline: 60s}, health: {ready_p95: 60s, error_rate: 0.01}}
    on_failure: rollback
    compensate: {to_revision: "${params.prev}"}
  - {id: smoke, kind: process, needs: [roll], placement: {same-as: roll}, with: {image: "checks:1", command: [python, smoke.py]}, outputs: {score: result.score}}
  - {id: old, kind: evict, needs: [smoke], with: {dataset: "${params.model}@${params.prev}", after: 1h}}
  finally:
  - {id: in, kind: scale, with: {dataset: "${params.model}", workers: 0, drain: true}}
  - {id: tell, kind: notify, with: {url: "https://hooks.example/x", body: {state: "${steps.roll.state}"}}}
"""


def test_every_field_of_a_flow_is_read():
    flow = read_flow(GOOD, name="f.yaml")
    assert flow.full_name == "team-a/deploy-llama-v2"
    assert flow.labels == {"tier": "gold"}
    assert flow.params["zones"] == ["a", "b"]
    assert [t.manual for t in flow.triggers] == [True, False, False, False]
    assert flow.triggers[1].cron == "0 3 * * *"
    assert flow.triggers[2].event == {"dataset": "${params.model}", "revision": "published"}
    assert flow.triggers[3].webhook == {"secret": "env:HOOK"}
    assert flow.concurrency.group == "deploy-${params.model}"
    assert flow.budget == Budget(origin_bytes=400 * 2**30, egress_usd=20.0, wall_seconds=7200.0)
    steps = {step.id: step for step in (*flow.steps, *flow.finally_)}
    assert list(steps) == [
        *("out", "copy", "warm", "ready", "gate", "roll", "smoke", "old", "in", "tell")
    ]
    assert [step.id for step in flow.finally_] == ["in", "tell"]
    assert steps["out"].retry == Retry(max=4)
    assert steps["out"].timeout_seconds == 1200
    assert steps["out"].compensate == {"restore": True}
    assert steps["copy"].retry == Retry(max=1, factor=3.0)
    assert steps["copy"].foreach == Foreach(
        name="zone", values="${params.zones}", max_parallel=2, fail_fast=False
    )
    assert steps["copy"].arguments["from"] == "s3://models/${params.model}"
    assert steps["copy"].place == Place(16, 5)
    assert steps["ready"].timeout_seconds == 900
    assert steps["gate"].condition == "plan.egress_usd > 10"
    assert steps["roll"].on_failure == "rollback"
    assert steps["smoke"].placement == {"same-as": "roll"}
    assert steps["smoke"].outputs == {"score": "result.score"}


def test_an_approval_waits_for_ever_unless_it_says_how_long_itself():
    flow = read_flow(GOOD, name="f.yaml")
    assert next(one for one in flow.steps if one.id == "gate").timeout_seconds is None


def test_all_problems_are_told_at_once_in_their_order():
    text = GOOD.replace("kind: Flow", "kind: Floe").replace("${params.rev}", "${params.ref}")
    text = text.replace("needs: [roll]", "needs: [rol]").replace("workers: 0", "workers: none")

    def where(word):
        before = text[: text.index(word)]
        return f"f.yaml:{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}"

    assert problems(text) == [
        "f.yaml:2:7: kind: 'Floe', where Flow is needed",
        f"{where('ref}')}: spec.steps.copy.with.to: unknown parameter 'ref' (did you mean rev?)",
        f"{where('rol]')}: spec.steps.smoke.needs[0]: unknown step 'rol' (did you mean roll?)",
        f"{where('roll}')}: spec.steps.smoke.placement.same-as: roll may not have run yet (add roll to needs)",
        f"{where('none')}: spec.finally.in.with.workers: text, where a whole number is needed",
    ]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{id: a, kind: copy}", "kind: unknown kind 'copy' (did you mean migrate?)"),
        ("{id: a, kind: procss}", "kind: unknown kind 'procss' (did you mean process?)"),
        ("{id: a b, kind: approve}", "not an id: 'a b'"),
        ("{kind: approve}", "spec.steps[0]: id is missing"),
        ("{id: a}", "spec.steps.a: kind is missing"),
        ("{id: a, kind: approve, need: [b]}", "need: unknown key 'need' (did you mean needs?)"),
        ("{id: a, kind: approve, on: x}", "to YAML 1.1, on is a truth value"),
        ("{id: a, kind: approve, needs: b}", "text, where a list is needed (write [b])"),
        ("{id: a, kind: approve, needs: [a]}", "a step cannot need itself"),
        ("{id: a, kind: approve, timeout: 0s}", "no time at all"),
        ("{id: a, kind: approve, on_failure: undo}", "unknown word 'undo'"),
        ("{id: a, kind: approve, retry: {on: [any]}}", "the key is when"),
        ("{id: a, kind: approve, retry: {max: -1}}", "-1 is not from 0 to 1000"),
        ("{id: a, kind: approve, if: sukceeded()}", "did you mean succeeded?"),
        ("{id: a, kind: approve, if: success()}", "did you mean succeeded()?"),
        ("{id: a, kind: approve, if: steps.b.state == 'Failed'}", "unknown step 'b'"),
        ("{id: a, kind: approve, if: x > 1}", "unknown name 'x'"),
        ("{id: a, kind: approve, if: each.x}", "each is only there with foreach"),
        ("{id: a, kind: approve, if: plan.cost > 1}", "unknown name in plan 'cost'"),
        ("{id: a, kind: approve, if: 'a ${x}'}", "if is an expression: it needs no ${…}"),
        ("{id: a, kind: approve, foreach: {x: 5}}", "a number, where a list is needed"),
        ("{id: a, kind: approve, foreach: {max_parallel: 2}}", "needs one name with its values"),
        ("{id: a, kind: approve, foreach: {index: [1]}}", "index is what each.index is"),
        ("{id: a, kind: approve, compensate: {x: 1}}", "approve steps cannot be undone"),
        ("{id: a, kind: scale, with: {pool: p}}", "workers is missing"),
        ("{id: a, kind: scale, with: {workers: 1}}", "needs dataset or pool"),
        ("{id: a, kind: scale, with: {pool: p, dataset: d, workers: 1}}", "exclude each other"),
        ("{id: a, kind: scale, with: {pool: p, workers: 1, drain: no}}", "write false"),
        ("{id: a, kind: process, with: {command: python x.py}}", "(write [python, x.py])"),
        ("{id: a, kind: process, with: {command: []}}", "an empty list"),
        ("{id: a, kind: process, with: {command: [x], env: {HF_TOKEN: x}}}", "env:HF_TOKEN"),
        ("{id: a, kind: process, with: {command: [x], secrets: {A: x}}}", "not a reference"),
        ("{id: a, kind: prefetch, with: {dataset: d, paths: ['']}}", "an empty text"),
        ("{id: a, kind: prefetch, with: {dataset: D}}", "not a dataset name: 'D'"),
        ("{id: a, kind: prefetch, with: {dataset: d, rate: 10G}}", "write it like 10Gb/s"),
        ("{id: a, kind: migrate, with: {from: 's3://a/b', to: 's3://a/b'}}", "the same as from"),
        ("{id: a, kind: migrate, with: {from: /a, to: 's3://a/b'}}", "not a URL: '/a'"),
        (
            "{id: a, kind: migrate, with: {from: 's3://a', to: 'hf://o/m'}}",
            "nothing can be written",
        ),
        ("{id: a, kind: backup, with: {dataset: a, to: 'https://o/m'}}", "nothing can be written"),
        (
            "{id: a, kind: migrate, with: {from: 's3://a/b', to: 's3://c', options: {to: {secret_key: x}}}}",
            "looks like a secret",
        ),
        ("{id: a, kind: wait, with: {condition: verified}}", "has no files to look at"),
        ("{id: a, kind: wait, with: {dataset: d, condition: verifid}}", "did you mean verified?"),
        ("{id: a, kind: wait, with: {dataset: d, condition: '1 >'}}", "it ends too early"),
        ("{id: a, kind: rollout, with: {target: x, replicas: 1}}", "not a target: 'x'"),
        ("{id: a, kind: rollout, with: {target: local/x, replicas: 1}}", "needs a command"),
        (
            "{id: a, kind: rollout, with: {target: deployment/other/x, replicas: 1}}",
            "not the name of a deployment: 'other/x'",
        ),
        (
            "{id: a, kind: rollout, with: {target: statefulset/.., replicas: 1}}",
            "not the name of a statefulset: '..'",
        ),
        (
            "{id: a, kind: rollout, with: {target: deployment/x, replicas: 9, batch: [5, 1]}}",
            "batches grow",
        ),
        ("{id: a, kind: notify, with: {url: 'ftp://x/y'}}", "not an HTTP URL"),
        (
            "{id: a, kind: notify, with: {url: 'http://x/y', headers: {Authorization: z}}}",
            "write secret_headers: {Authorization: env:NAME}",
        ),
        ("{id: a, kind: flow, with: {}}", "needs name or document"),
        ("{id: a, kind: evict, with: {dataset: 'x${params.y'}}", "${ without its }"),
        ("{id: a, kind: evict, with: {dataset: '${steps.a.outputs.x}'}}", "may not have run yet"),
    ],
)
def test_a_wrong_step_is_told_what_is_wrong_with_it(line, told):
    assert told in only(of_steps(line))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "f.yaml:1:1: the document is empty"),
        ("a: [", "flow"),
        ("a: 1\n---\nb: 1\n", "f.yaml:2:1: a second document"),
        ("a: &x 1\nb: *x\n", "f.yaml:2:4: an alias: *x"),
        ("a: 1\nb: 2\na: 3\n", "f.yaml:3:1: a second key 'a' (see line 1)"),
        ("a: !!python/object:os.system x\n", "f.yaml:1:4: a tag"),
        ("1: x\n", "f.yaml:1:1: a key that is not text: 1"),
        ("[a]: x\n", "f.yaml:1:1: a key that is not text"),
        ("a: 99999999999999999999\n", "f.yaml:1:4: a number that is too large"),
        ("[" * 40, "nested more than 32 deep"),
        ("a: '\x01'", "not YAML"),
        ("\ud800", "not Unicode text"),
        ("a: 1\n\tb: 2\n", "f.yaml:2:1: not YAML"),
        ("just text", "f.yaml:1:1: text, where a mapping is needed"),
        ("apiVersion: data.fluid.io/v1alpha1", "`cachefs flow import` reads Fluid's documents"),
        (HEAD + "on: push\nspec: {steps: []}\n", "the key is triggers"),
        (HEAD + "spec: {on: push, steps: []}\n", "the key is triggers"),
    ],
)
def test_a_document_that_is_none_is_told_why(text, told):
    assert any(told in one for one in problems(text)), problems(text)


def test_words_that_yaml_1_1_takes_for_something_else_are_text():
    params = "{a: yes, b: 12:30, c: 010, d: 2024-01-01, e: off, f: 1_000, g: 0x10, h: ~, i: 1.5}"
    flow = read_flow(of_steps("{id: a, kind: approve}", more=f"  params: {params}\n"), name="x")
    assert flow.params == {
        "a": "yes",
        "b": "12:30",
        "c": "010",
        "d": "2024-01-01",
        "e": "off",
        "f": "1_000",
        "g": "0x10",
        "h": None,
        "i": 1.5,
    }


def test_steps_that_wait_for_each_other_are_told():
    told = only(
        of_steps(
            "{id: a, kind: approve, needs: [c]}",
            "{id: b, kind: approve, needs: [a]}",
            "{id: c, kind: approve, needs: [b]}",
            "{id: d, kind: approve, needs: [c]}",
        )
    )
    assert "steps that wait for each other: a → c → b → a" in told


def test_two_steps_of_one_id_are_told():
    told = only(of_steps("{id: a, kind: approve}", "{id: a, kind: approve}"))
    assert told == "f.yaml:7:10: spec.steps.a.id: a second step 'a' (see line 6)"


def test_a_step_that_is_asked_for_its_outcome_must_be_needed():
    first = "{id: a, kind: approve}"
    between = "{id: b, kind: approve, needs: [a]}"
    asks = "{id: c, kind: approve, needs: [%s], if: steps.a.state == 'Succeeded'}"
    read_flow(of_steps(first, between, asks % "b"), name="x")
    assert "a may not have run yet" in only(of_steps(first, between, asks % ""))


def test_a_state_that_no_step_ever_has_is_told():
    steps = ["{id: a, kind: approve}", "{id: b, kind: approve, needs: [a], if: %s}"]
    told = only(of_steps(steps[0], steps[1] % "steps.a.state == 'Suceeded'"))
    assert "no step is ever 'Suceeded' (did you mean Succeeded?)" in told


def test_finally_knows_all_steps_and_needs_none_of_them():
    last = "  finally:\n  - {id: z, kind: approve, if: \"steps.a.state == 'Failed'\"}\n"
    read_flow(of_steps("{id: a, kind: approve}") + last, name="x")
    told = only(of_steps("{id: a, kind: approve}") + last.replace("if:", "needs: [a], if:"))
    assert "a is over anyway when finally begins" in told


def test_a_flow_within_a_flow_is_checked_with_its_own_names():
    inner = "{apiVersion: cachefs/v1, kind: Flow, metadata: {name: x}, spec: {params: {m: 1}, steps: [%s]}}"
    good = inner % '{id: s, kind: evict, with: {dataset: "${params.m}"}}'
    read_flow(of_steps(f"{{id: a, kind: flow, with: {{document: {good}}}}}"), name="x")
    told = only(
        of_steps(
            f"{{id: a, kind: flow, with: {{document: {good.replace('params.m}', 'params.n}')}}}}}"
        )
    )
    assert "spec.steps.a.with.document.spec.steps.s.with.dataset: unknown parameter 'n'" in told


def all_wrong(count):
    """Return what is said of a document of so many steps, in which everything is wrong."""
    text = of_steps(
        *(f"{{id: s{i}, kind: approv{i}, nedes: [], needs: [s{i}x]}}" for i in range(count))
    )
    with pytest.raises(ConfigError) as caught:
        read_flow(text, name="f.yaml")
    return str(caught.value)


@pytest.mark.slow
def test_a_document_in_which_everything_is_wrong_is_told_shortly():
    lines = all_wrong(3000).splitlines()
    assert len(lines) == 101
    assert lines[-1] == "and 8900 more problems"


@pytest.mark.slow
def test_a_document_in_which_everything_is_wrong_takes_no_longer_for_each_step():
    """Beyond the problems that are shown, no near names are looked for among all there are."""
    first, few, many = (lines_run(all_wrong, count) for count in (50, 100, 200))
    assert many - few < 2.5 * (few - first)


def test_near_names_are_not_looked_for_beyond_what_is_shown():
    at = At()
    assert at.nearest("need", ["needs"]) == "did you mean needs?"
    for _ in range(100):
        at.fault("x")
    assert at.nearest("need", ["needs"]) == ""


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ("kind: publish, with: {dataset: llama}", "no version is named"),
        ("kind: publish", "dataset is missing"),
        (
            "kind: publish, with: {dataset: llama@v2}, compensate: {restore: true, version: v1}",
            "needs either restore: true or version",
        ),
        (
            'kind: migrate, with: {from: "s3://a/b", to: "dataset:llama", current: true}',
            "only a dataset's version is current",
        ),
        (
            'kind: migrate, with: {from: "s3://a/b", to: "s3://b/c", current: true}',
            "only a dataset's version is current",
        ),
        ("kind: promote, with: {dataset: llama@v2}", "did you mean publish"),
    ],
)
def test_what_is_published_is_a_version(step, said):
    assert said in only(of_steps(f"{{id: a, {step}}}"))


def test_a_version_that_is_a_template_is_known_when_the_step_begins():
    step = '{id: a, kind: publish, with: {dataset: "${params.it}"}}'
    text = of_steps(step, more="  params: {it: llama@v2}\n")
    assert read_flow(text, name="flow").steps[0].kind == "publish"
