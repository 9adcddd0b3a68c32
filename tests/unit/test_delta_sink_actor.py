"""Sinks of the configuration: started, restarted and stopped by the supervisor, on nobody's way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
from deltalake import DeltaTable
from typer.testing import CliRunner

from actors.book.payloads import position_to
from actors.delta.sink import Step
from actors.delta.sink_actor import AGAIN_AFTER_S, REFUSED_PAUSE_S, SinkActor, SinkHealth, SinkSettings
from actors.events import Event, EventType
from actors.journal.store import Append, Journal
from actors.runtime.ports import ActorUnavailable, LocalRuntime
from brokers.clocks import broker_time
from brokers.errors import Refused, Unreachable
from brokers.spec import SecretRef, SecretSource
from supervisor.changes.diff import applied, difference
from supervisor.cli.main import app
from supervisor.config.loader import load
from supervisor.config.models import ConfigurationError
from supervisor.supervision import specs
from supervisor.tree.model import (
    AUDIT,
    ChildKey,
    ChildSpec,
    DesiredChanged,
    Discovered,
    Ended,
    Kind,
    Start,
    Started,
    Stop,
    TreePolicy,
)
from supervisor.tree.tree import Tree
from tests.unit.audit_cases import a_happening
from tests.unit.builders import at, dec
from tests.unit.hall import Hall, restarts
from tests.unit.virtual_time import virtual_time

SINK = ChildKey(Kind.SINK, "sink:1")


def held(number: int) -> Event:
    payload = position_to("net", dec(number), dec("1.1"), broker_time(at(number)), None)
    return a_happening(EventType.POSITION_RECORDED, payload, number, "acc/A")


def seqs(uri: Path) -> list[int]:
    return sorted(DeltaTable(str(uri)).to_pyarrow_table().column("seq").to_pylist())


async def until(holds: Callable[[SinkHealth], bool], sink: SinkActor) -> SinkHealth:
    async with asyncio.timeout(20):
        while True:
            health = await sink.health()
            if holds(health):
                return health
            await asyncio.sleep(0.01)


def runtime() -> LocalRuntime:
    return LocalRuntime(lambda: datetime.now(UTC), asyncio.get_running_loop().time, lambda: 0.5)


async def test_a_sink_follows_the_journal_and_writes_the_rest_before_it_ends(tmp_path: Path) -> None:
    """FEATURES 27"""
    url, uri = f"sqlite:///{tmp_path}/journal.db", tmp_path / "t"
    journal = Journal.open(url, exclusive=True)
    try:
        sink = SinkActor(SinkSettings("sink:1", str(uri), url, every_s=0.02), runtime())
        journal.append([Append("acc/A", 0, (held(1),))])
        await sink.start()
        await until(lambda health: health.seq == 1, sink)
        journal.append([Append("acc/A", 1, (held(2),))])
        await until(lambda health: health.seq == 2, sink)
        journal.append([Append("acc/A", 2, (held(3), held(4)))])
        await sink.close()
        with pytest.raises(ActorUnavailable, match="closed by a supervisor that has died"):
            await sink.health()
        assert seqs(uri) == [1, 2, 3, 4]
    finally:
        journal.close()


class Fake:
    """A sink that fails as it is asked."""

    def __init__(self) -> None:
        self.failures: list[Exception] = []
        self.steps = self.opened = self.closed = 0

    def __call__(self, settings: SinkSettings, now: Callable[[], datetime]) -> Fake:
        self.opened += 1
        return self

    def step(self) -> Step:
        self.steps += 1
        if self.failures:
            raise self.failures.pop(0)
        return Step(1, 1, self.steps, more=False)

    def keep_up(self) -> None:
        return

    def close(self) -> None:
        self.closed += 1


async def at_once(work: Callable[..., object], /, *arguments: object) -> object:
    return work(*arguments)


@pytest.mark.parametrize(
    ("failure", "pause_s", "words"),
    [
        (Unreachable("write", "sink:1", "no answer", "It is tried again."), AGAIN_AFTER_S, "no answer"),
        (Refused("write", "sink:1", "of another journal", "Name a new one."), REFUSED_PAUSE_S, "another journal"),
        (RuntimeError("?"), AGAIN_AFTER_S, "an internal error"),
    ],
)
@virtual_time
async def test_a_sink_that_cannot_write_says_why_and_goes_on(failure: Exception, pause_s: float, words: str) -> None:
    fake = Fake()
    fake.failures = [failure]
    sink = SinkActor(SinkSettings("sink:1", "t", "j"), runtime(), fake, at_once)
    await sink.start()
    await asyncio.sleep(pause_s - 0.1)
    health = await sink.health()
    assert (fake.steps, words in str(health.error), fake.closed) == (1, True, 1)
    await asyncio.sleep(0.2)
    assert ((await sink.health()).error, fake.steps, fake.opened) == (None, 2, 2)
    await sink.close()


# In the tree


def test_a_sink_stands_on_the_audit_actor_and_ends_after_those_who_write() -> None:
    tree = Tree(TreePolicy(), lambda: 0.5)
    account, instrument = ChildKey(Kind.ACCOUNT, "fx"), ChildKey(Kind.INSTRUMENT, "fx/A")
    everybody = [AUDIT, account, instrument, SINK]
    tree.handle(Discovered(()), 0)
    commands = tree.handle(DesiredChanged(tuple(ChildSpec(key, 3, 4) for key in everybody)), 0)
    order = []
    while starts := [one for one in commands if isinstance(one, Start)]:
        order += [one.spec.key for one in starts]
        commands = [more for one in starts for more in tree.handle(Started(one.spec.key, one.attempt), 1)]
    assert (order[0], set(order)) == (AUDIT, set(everybody))
    assert not tree.validate()
    ended = []
    commands = tree.handle(DesiredChanged(()), 2)
    while stops := [one for one in commands if isinstance(one, Stop)]:
        ended += [one.key for one in stops]
        commands = [more for one in stops for more in tree.handle(Ended(one.key, one.attempt), 3)]
    assert ended == [instrument, account, SINK, AUDIT]


def test_a_sink_alone_is_stopped_though_others_go_on() -> None:
    tree = Tree(TreePolicy(), lambda: 0.5)
    tree.handle(Discovered((AUDIT, SINK)), 0)
    commands = tree.handle(DesiredChanged((ChildSpec(AUDIT, 3, 4),)), 0)
    assert [one.key for one in commands if isinstance(one, Stop)] == [SINK]


@virtual_time
async def test_the_supervisor_runs_its_sinks_and_restarts_one_that_was_killed(tmp_path: Path) -> None:
    account = "\n  - {name: fx, broker: oanda, simulator: true, instruments: [EUR_USD]}\n"
    hall = Hall(tmp_path, f"{account}sinks: [{{delta: positions}}]\n", partial(SinkActor, in_thread=at_once))
    try:
        hall.brokers["fx"].hold(100, instrument="EUR_USD")
        await hall.up()
        status = await hall.until(lambda s: s["supervisor"]["sinks"][0]["rows"] >= 1, "the position is in the table")
        [row] = status["supervisor"]["sinks"]
        assert (row["name"], row["uri"], row["error"]) == ("sink:1", str(tmp_path / "positions"), None)
        await hall.runtime.kill("sink:1")
        hall.brokers["fx"].hold(150, instrument="EUR_USD")
        status = await hall.until(
            lambda s: s["supervisor"]["sinks"][0]["rows"] >= 1 and restarts(s, "sink:1") == 1,
            "it was restarted",
        )
        assert status["status"] == "SUCCESS"
    finally:
        await hall.supervisor.stop()
    rows = DeltaTable(str(tmp_path / "positions")).to_pyarrow_table().to_pylist()
    assert [row["quantity"] for row in sorted(rows, key=lambda row: row["seq"])] == [100, 150]


# In the configuration


def write(directory: Path, sinks: str) -> Path:
    path = directory / "accounts.yaml"
    path.write_text(
        f"journal: {{url: 'sqlite:///{directory}/journal.db'}}\n"
        "accounts: [{name: fx, broker: oanda, simulator: true, instruments: [EUR_USD]}]\n" + sinks
    )
    return path


def test_without_the_library_no_sink_is_started_and_check_and_status_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, "sinks: [{delta: t}]\n")
    assert SINK in {spec.key for spec in specs.children(load(path))}
    monkeypatch.setattr(specs, "find_spec", lambda name: None if name == "deltalake" else name)
    assert SINK not in {spec.key for spec in specs.children(load(path))}
    said = CliRunner().invoke(app, ["check", str(path), "--json"])
    assert said.exit_code == 0
    [sink] = json.loads(said.stdout)["sinks"]
    assert "pip install" in sink["lacking"]


@pytest.mark.parametrize(
    ("sinks", "words"),
    [
        ("sinks: [{}]", "the table: a path"),
        ("sinks: [{delta: t, every: 3}]", "unknown key"),
        ("sinks: t", "a list"),
        ("sinks: [{delta: s3://b/t, storage_options: {allow_invalid_certificates: true}}]", "they are always verified"),
        (
            "sinks: [{delta: s3://b/t, storage_options: {AWS_SECRET_ACCESS_KEY: abc}}]",
            "a secret written in the file",
        ),
        ("sinks: [{delta: t}, {delta: t}]", "each table once"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, sinks: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        load(write(tmp_path, sinks + "\n"))


def test_a_change_of_the_sinks_is_a_difference_that_names_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORE_KEY", "hidden")
    old = load(write(tmp_path, ""))
    options = "{AWS_SECRET_ACCESS_KEY: '${STORE_KEY}'}"
    new = load(write(tmp_path, f"sinks: [{{delta: s3://b/t, storage_options: {options}}}]\n"))
    found = difference(old, new)
    assert "STORE_KEY" not in str(found.rows[0])
    assert applied(found, old).sinks == new.sinks
    [sink] = specs.sinks(applied(found, old))
    [(key, ref)] = sink.options.items()
    assert ref == SecretRef(SecretSource.ENVIRONMENT, "sinks", key, "STORE_KEY")
