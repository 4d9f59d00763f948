"""Watching hints: one at once, another when it says something else, and not too many who watch."""

import asyncio
import json

import pytest

from cachefs.coordinator.streams import begun
from cachefs.core.hints.asking import Question, Reading
from cachefs.errors import CapacityError, ConfigError
from cachefs.hints import watching
from cachefs.hints.watching import Watchers, what_it_says
from tests.unit.hints.service.known import LLAMA, SIZE, Site

QUESTION = Question(readings=(Reading(dataset=LLAMA),), dry_run=True)


@pytest.fixture
def site(monkeypatch):
    monkeypatch.setattr(watching, "UPDATE_SECONDS", 0.001)
    site = Site()
    site.known.put("n1")
    site.known.put("n2")
    site.known.hold(LLAMA, SIZE)
    return site


def documents(lines):
    return [json.loads(line.removeprefix(b"data: ")) for line in lines if line.startswith(b"data")]


def watch(watchers, steps, limit=20):
    """Watch, do a step after each line, and return the lines."""

    async def run():
        lines = []
        stream = watchers.hints(QUESTION)
        async for line in stream:
            lines.append(line)
            if not steps or len(lines) >= limit:
                break
            steps.pop(0)()
        await stream.aclose()
        return lines

    return asyncio.run(run())


def test_a_watcher_hears_at_once_and_when_blocks_have_landed(site):
    watchers = Watchers(site.service, site.clock, limit=1)
    lines = watch(watchers, [lambda: site.known.hold(LLAMA, SIZE, n2=0.5)])
    first, second = documents(lines)
    assert first["nodes"][0]["bytes"]["nvme"] == 0
    assert (second["nodes"][0]["node"], second["nodes"][0]["bytes"]["nvme"]) == ("n2", SIZE // 2)


def test_what_means_nothing_new_is_not_sent(site, monkeypatch):
    monkeypatch.setattr(watching, "_ALIVE_SECONDS", 0.01)
    watchers = Watchers(site.service, site.clock, limit=1)

    def older():
        site.clock.now += 0.3
        site.known.revision += 1

    lines = watch(watchers, [older, older])
    assert lines[1:] == [b": nothing has changed\n\n"] * 2


def test_all_who_watch_the_same_share_an_answer(site):
    watchers = Watchers(site.service, site.clock, limit=5)

    async def both():
        streams = [watchers.hints(QUESTION) for _ in range(4)]
        firsts = [await anext(stream) for stream in streams]
        for stream in streams:
            await stream.aclose()
        return firsts

    assert len(set(asyncio.run(both()))) == 1
    assert len(site.known.asked) == 1


def test_there_is_a_limit_to_who_watches_and_it_is_given_back(site):
    watchers = Watchers(site.service, site.clock, limit=1)
    with watchers.counted(), pytest.raises(CapacityError, match="1 watch hints already"):
        watch(watchers, [])
    watch(watchers, [])
    assert len(watch(watchers, [])) == 1


def test_who_is_answered_that_he_may_watch_has_a_place(site):
    watchers = Watchers(site.service, site.clock, limit=1)

    async def two():
        first = await begun(watchers.hints(QUESTION))
        with pytest.raises(CapacityError):
            await begun(watchers.hints(QUESTION))
        line = await anext(first)
        await first.aclose()
        await (await begun(watchers.hints(QUESTION))).aclose()
        return line

    assert documents([asyncio.run(two())])


def test_watchers_end_with_the_server(site):
    watchers = Watchers(site.service, site.clock, limit=1)
    assert len(watch(watchers, [watchers.close])) == 1


def test_a_failure_ends_the_stream_and_is_told(site, monkeypatch):
    def fail(reading):
        raise ConfigError("several versions begin like that")

    watchers = Watchers(site.service, site.clock, limit=1)
    monkeypatch.setattr(site.known, "find", fail)
    (line,) = watch(watchers, [lambda: None])
    assert line.startswith(b"event: failure\n")
    assert b"several versions" in line


def test_a_hint_says_the_same_a_moment_later(site):
    before = site.service.answer(QUESTION)
    site.clock.now += 0.5
    assert what_it_says(site.service.answer(QUESTION)) == what_it_says(before)
