"""Actors on the nodes that their configuration says, in one process: pending where there is none, elsewhere when one is
lost, and moved by a change."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from actors.events import EventType, Record
from actors.journal.store import Journal
from actors.names import SUPERVISOR
from actors.runtime.nodes import Node, place_of
from supervisor.changes.applied_configuration import Run
from supervisor.changes.requests import Apply, ChangeRefused
from supervisor.cli.operate import node_lines
from supervisor.config.cautions import cautions
from supervisor.config.loader import load
from supervisor.config.models import Configuration, ConfigurationError
from supervisor.presentation.event_text import counted_restarts
from tests.unit.hall import EVERYBODY, Hall, Status, a_hall, restarts, rows, states
from tests.unit.virtual_time import virtual_time

SECTIONS = "ray: {address: auto}\n"
FX = {"fx", "fx/EUR_USD", "fx/GBP_JPY"}
NODE_A, NODE_B, NODE_B2 = (
    Node(name, place_of({"zone": zone}), address)
    for name, zone, address in (("a1", "a", "10.0.0.1"), ("b1", "b", "10.0.0.2"), ("b2", "b", "10.0.0.3"))
)


def accounts(zone: str = "b", more: str = "") -> str:
    return f"""
  - {{name: fx, broker: oanda, simulator: true, place: {{zone: {zone}}}, instruments: [EUR_USD, GBP_JPY]{more}}}
  - {{name: cfd, broker: mt5, simulator: true, place: {{zone: a}}, instruments: [EURUSD]}}
"""


def on_nodes(status: Status) -> dict[str, str | None]:
    return {one["name"]: one["node"] and one["node"]["id"] for one in status["supervisor"]["actors"]}


def reason(status: Status, name: str) -> str:
    return next(str(one["reason"]) for one in status["supervisor"]["actors"] if one["name"] == name)


def written(hall: Hall, kind: EventType) -> list[dict[str, Any]]:
    journal = Journal.open(hall.configuration.journal_url, read_only=True)
    try:
        return [dict(one.event.payload) for one in journal.records(types=(kind,))]
    finally:
        journal.close()


def _records(hall: Hall) -> list[Record]:
    journal = Journal.open(hall.configuration.journal_url, read_only=True)
    try:
        return list(journal.records())
    finally:
        journal.close()


def changed(hall: Hall, before: str, after: str) -> Configuration:
    path = Path(hall.configuration.state_dir) / "accounts.yaml"
    path.write_text(path.read_text().replace(before, after))
    return load(path)


def per_actor(many: int) -> str:
    return f", instruments_per_actor: {many}"


@virtual_time
async def test_everybody_is_where_the_labels_say_and_instruments_are_where_their_account_is(tmp_path: Path) -> None:
    async with a_hall(tmp_path, accounts(), nodes=(NODE_A, NODE_B2, NODE_B), sections=SECTIONS) as hall:
        status = await hall.up()
        found = on_nodes(status)
        assert {found[name] for name in FX} == {"b2"}, "and not spread over b1 and b2"
        assert found["cfd"] == found["cfd/EURUSD"] == "a1"
        [row] = [one for one in status["supervisor"]["actors"] if one["name"] == "fx"]
        assert row["node"] == {"id": "b2", "address": "10.0.0.3", "labels": {"zone": "b"}, "draining": False}
        assert row["place"] == {"zone": "b"}
        assert rows(status)["fx/EUR_USD"]["health"]["node"] == row["node"]
        assert node_lines(status) == [
            "node 10.0.0.1 (zone=a): audit, cfd, cfd/EURUSD",
            "node 10.0.0.3 (zone=b): fx, fx/EUR_USD, fx/GBP_JPY",
        ]


@virtual_time
async def test_an_account_comes_back_where_its_instruments_are(tmp_path: Path) -> None:
    """Wherever a new one would go by now."""
    async with a_hall(tmp_path, accounts(), nodes=(NODE_A, NODE_B2, NODE_B), sections=SECTIONS) as hall:
        await hall.up()
        await hall.supervisor.drain("b2", "tests")
        await hall.until(lambda s: {on_nodes(s)[name] for name in FX} == {"b1"}, "they moved")
        hall.cluster.add_node(NODE_B2)  # as it was, and the first again
        await hall.cluster.kill("fx")
        status = await hall.until(lambda s: restarts(s, "fx") == 1 and states(s)["fx"] == "UP", "it is back")
        assert {on_nodes(status)[name] for name in FX} == {"b1"}


@pytest.mark.parametrize("carried", [1, 10])
def test_one_without_a_node_is_pending_with_the_reason_and_comes_up_when_there_is_one(
    tmp_path: Path, carried: int
) -> None:
    @virtual_time
    async def run() -> None:
        made_of = {"nodes": (NODE_A,), "sections": SECTIONS}
        async with a_hall(tmp_path, accounts(more=per_actor(carried)), **made_of) as hall:
            waiting = dict.fromkeys(FX, "PENDING")
            status = await hall.until(lambda s: states(s) == dict.fromkeys(EVERYBODY, "UP") | waiting, "fx waits")
            assert reason(status, "fx").startswith(
                "no node has zone=b: the cluster's nodes have zone=a. Start one with: "
            )
            assert "--labels=zone=b" in reason(status, "fx")
            assert "cannot be started: no node has zone=b" in rows(status)["fx/EUR_USD"]["error"]
            await asyncio.sleep(600)
            status = await hall.supervisor.status()
            assert {name: (states(status)[name], restarts(status, name)) for name in FX} == dict.fromkeys(
                FX, ("PENDING", 0)
            ), "it is neither tried again nor counted"
            assert [one["actor"] for one in written(hall, EventType.ACTOR_PENDING)] == ["fx"], "reported once"
            hall.cluster.add_node(NODE_B)
            status = await hall.up()
            assert {on_nodes(status)[name] for name in FX} == {"b1"}
            assert restarts(status, "fx") == 0

    run()


@pytest.mark.parametrize("carried", [1, 10])
@pytest.mark.parametrize("at_once", [True, False])
def test_a_lost_node_is_no_crash_and_its_actors_go_to_another_of_its_labels(
    tmp_path: Path, carried: int, *, at_once: bool
) -> None:
    @virtual_time
    async def run() -> None:
        made_of = {"nodes": (NODE_A, NODE_B), "sections": SECTIONS}
        async with a_hall(tmp_path, accounts(more=per_actor(carried)), **made_of) as hall:
            await hall.up()
            others = {name: hall.actor(name) for name in EVERYBODY - FX}
            await hall.cluster.lose_node("b1", noticed=at_once)
            if not at_once:  # the cluster notices only later: until then each of them seems to have crashed
                await hall.until(lambda s: restarts(s, "fx") == 1, "it is taken for a crash")
                for one in FX:
                    await hall.cluster.kill(one)
                hall.cluster.notice_loss("b1")
            status = await hall.until(
                lambda s: {states(s)[name] for name in FX} == {"PENDING"}, "there is no other one"
            )
            assert {name: restarts(status, name) for name in FX} == dict.fromkeys(FX, 0)
            hall.cluster.add_node(NODE_B2)
            status = await hall.up()
            assert {on_nodes(status)[name] for name in FX} == {"b2"}
            assert {name: restarts(status, name) for name in FX} == dict.fromkeys(FX, 0)
            assert {name: hall.actor(name) for name in others} == others, "nobody else is touched"
            lost = [one for one in written(hall, EventType.ACTOR_RESTARTED) if one["reason"].startswith("node lost")]
            assert {one["actor"] for one in lost} == FX
            assert "node lost: 10.0.0.2 (zone=b)" in {one["reason"] for one in lost}
            assert all(one["counted"] is False for one in lost)

    run()


@virtual_time
async def test_ten_lost_nodes_quarantine_nobody_and_a_supervisor_after_them_counts_none(tmp_path: Path) -> None:
    async with a_hall(tmp_path, accounts(), nodes=(NODE_A, NODE_B), sections=SECTIONS) as hall:
        await hall.cluster.kill(SUPERVISOR)
        run = Run("one", {}, hall.clock())
        hall.new_supervisor(run)
        await hall.up()
        for number in range(10):
            hall.cluster.add_node(Node(f"b{number + 2}", NODE_B.labels))
            await hall.cluster.lose_node(f"b{number + 1}")
            lost = f"b{number + 1}"
            await hall.until(lambda s, lost=lost: s["status"] == "SUCCESS" and on_nodes(s)["fx"] != lost, "it moved")  # type: ignore[misc]  # a lambda's default
        await hall.cluster.kill(SUPERVISOR)
        hall.new_supervisor(run)
        status = await hall.until(lambda s: s["supervisor"]["restarts"] == 1 and s["status"] == "SUCCESS", "it is back")
        assert {name: restarts(status, name) for name in FX} == dict.fromkeys(FX, 0)
        assert on_nodes(status)["fx"] == "b11", "it learned where those are that it found"


@virtual_time
async def test_a_count_that_was_taken_back_is_taken_back_for_the_next_supervisor_too(tmp_path: Path) -> None:
    async with a_hall(tmp_path, accounts(), nodes=(NODE_A, NODE_B), sections=SECTIONS) as hall:
        await hall.cluster.kill(SUPERVISOR)
        run = Run("one", {}, hall.clock())
        hall.new_supervisor(run)
        await hall.up()
        await hall.cluster.lose_node("b1", noticed=False)
        await hall.until(lambda s: restarts(s, "fx") == 1, "it is taken for a crash")
        hall.cluster.add_node(NODE_B2)
        hall.cluster.notice_loss("b1")
        await hall.until(lambda s: s["status"] == "SUCCESS" and on_nodes(s)["fx"] == "b2", "it moved")
        await hall.cluster.kill(SUPERVISOR)
        hall.new_supervisor(run)
        status = await hall.until(lambda s: s["supervisor"]["restarts"] == 1 and s["status"] == "SUCCESS", "it is back")
        assert restarts(status, "fx") == 0
        of_fx = [record.event for record in _records(hall) if record.event.payload.get("actor") == "fx"]
        assert sum(counted_restarts(one.payload) for one in of_fx if one.type is EventType.ACTOR_RESTARTED) == 0


@virtual_time
async def test_spread_instruments_go_where_they_may_and_outlive_the_node_of_their_account(tmp_path: Path) -> None:
    nodes = (NODE_A, NODE_B)
    async with a_hall(tmp_path, accounts(more=", spread: true"), nodes=nodes, sections=SECTIONS) as hall:
        status = await hall.up()
        assert on_nodes(status) | {"fx": "b1"} == on_nodes(status)
        assert {on_nodes(status)[name] for name in FX - {"fx"}} == {"a1"}
        await hall.cluster.lose_node("b1")
        status = await hall.until(lambda s: states(s)["fx"] == "PENDING", "the account waits")
        assert {states(status)[name] for name in FX - {"fx"}} == {"UP"}, "they say themselves that they verify nothing"


@pytest.mark.parametrize("carried", [1, 10])
def test_a_change_of_place_moves_the_account_with_its_instruments_and_nobody_else(tmp_path: Path, carried: int) -> None:
    @virtual_time
    async def run() -> None:
        made_of = {"nodes": (NODE_A, NODE_B), "sections": SECTIONS}
        async with a_hall(tmp_path, accounts("a", per_actor(carried)), **made_of) as hall:
            await hall.up()
            others = {name: hall.actor(name) for name in EVERYBODY - FX}
            wanted = changed(hall, "name: fx, broker: oanda, simulator: true, place: {zone: a}",
                             "name: fx, broker: oanda, simulator: true, place: {zone: b}")  # fmt: skip
            result = await hall.supervisor.change(Apply(wanted, "file"), "tests")
            assert [str(row) for row in result.rows] == ["account fx changed: place {zone: a} → {zone: b}"]
            assert set(result.effects.restarted) == FX
            settled = await hall.supervisor.settled(result.effects.names, 60)
            assert {word for word, _ in settled.values()} == {"SETTLED"}
            status = await hall.up()
            assert {on_nodes(status)[name] for name in FX} == {"b1"}
            assert {name: restarts(status, name) for name in FX} == dict.fromkeys(FX, 0)
            assert {name: hall.actor(name) for name in others} == others
            assert hall.brokers["fx"].closed, "the connection was ended in order"
            changes = [one for one in written(hall, EventType.CONFIGURATION_CHANGED) if one.get("change")]
            assert changes[-1]["changes"] == ["account fx changed: place {zone: a} → {zone: b}"]

    run()


@virtual_time
async def test_a_move_to_a_place_that_no_node_is_in_is_refused_and_forced_it_waits_there(tmp_path: Path) -> None:
    async with a_hall(tmp_path, accounts("a"), nodes=(NODE_A,), sections=SECTIONS) as hall:
        await hall.up()
        there = hall.actor("fx")
        wanted = changed(hall, "simulator: true, place: {zone: a}, instruments: [EUR_USD",
                         "simulator: true, place: {zone: b}, instruments: [EUR_USD")  # fmt: skip
        with pytest.raises(ChangeRefused, match="fx could not be started: no node has zone=b"):
            await hall.supervisor.change(Apply(wanted, "file"), "tests")
        assert hall.actor("fx") is there
        await hall.supervisor.change(Apply(wanted, "file"), "tests", force=True)
        await hall.until(lambda s: {states(s)[name] for name in FX} == {"PENDING"}, "it waits")
        hall.cluster.add_node(NODE_B)
        await hall.up()


@virtual_time
async def test_a_cluster_that_does_not_name_its_nodes_or_names_none_has_nobody_killed(tmp_path: Path) -> None:
    async with a_hall(tmp_path, accounts(), nodes=(NODE_A, NODE_B), sections=SECTIONS) as hall:
        await hall.up()
        there = {name: hall.actor(name) for name in EVERYBODY}
        asked = hall.cluster.nodes

        async def nothing() -> Any:
            return type(await asked())(())

        hall.cluster.nodes = nothing  # type: ignore[method-assign]  # a cluster whose memory is gone
        await asyncio.sleep(60)
        assert {name: hall.actor(name) for name in EVERYBODY} == there
        hall.cluster.nodes = asked  # type: ignore[method-assign]  # it has it again
        await asyncio.sleep(10)
        assert {name: hall.actor(name) for name in EVERYBODY} == there


@pytest.mark.parametrize(
    ("ray", "journal", "account", "words"),
    [
        ("local", "", "place: {zone: a}", ["a: place does nothing with ray.address: local"]),
        ("local", "", "spread: true", ["a: spread does nothing with ray.address: local"]),
        ("local", ", place: {disk: ssd}", "", ["journal.place does nothing with ray.address: local"]),
        ("auto", "", "place: {zone: a}", ["journal.url is a file", "Set journal.place"]),
        ("auto", ", place: {disk: ssd}", "place: {zone: a}", []),
        ("auto", "", "", []),
        ("auto", "", "place: {}", []),
    ],
)
def test_check_names_a_place_that_can_have_no_effect_and_a_file_that_nothing_binds(
    tmp_path: Path, ray: str, journal: str, account: str, words: list[str]
) -> None:
    path = tmp_path / "accounts.yaml"
    of_account = f", {account}" if account else ""
    path.write_text(
        f"ray: {{address: {ray}}}\njournal: {{url: 'sqlite:///{tmp_path}/journal.db'{journal}}}\n"
        f"accounts:\n  - {{name: a, broker: paper, instruments: [X]{of_account}}}\n"
    )
    found = cautions(load(path, {}))
    assert bool(found) == bool(words), found
    assert all(word in found[0] for word in words)


@pytest.mark.parametrize(
    "place",
    ["zone", "[zone]", "{zone: [a, b]}", "{zone: '!a'}", "{zone: 'in(a,b)'}", "{'': a}", "{zone: ''}", "{-z: a}"],
)
def test_labels_that_ray_would_not_take_are_refused_with_file_line_and_key(tmp_path: Path, place: str) -> None:
    path = tmp_path / "accounts.yaml"
    path.write_text(f"accounts:\n  - name: a\n    broker: paper\n    instruments: [X]\n    place: {place}\n")
    with pytest.raises(ConfigurationError, match=r"place.*labels of nodes"):
        load(path, {})


def test_the_nearest_level_decides_and_labels_are_kept_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "accounts.yaml"
    path.write_text(
        "ray: {address: auto}\ndefaults: {place: {zone: a, rack: 07}, spread: true}\naccounts:\n"
        "  - {name: a, broker: paper, instruments: [X]}\n"
        "  - {name: b, broker: paper, instruments: [X], place: {example.com/gateway: true}, spread: false}\n"
        "  - {name: c, broker: paper, instruments: [X], place: {}}\n"
    )
    found = load(path, {})
    assert [found.place(name) for name in "abc"] == [
        (("rack", "07"), ("zone", "a")), (("example.com/gateway", "true"),), (),
    ]  # fmt: skip
    assert [found.is_spread(name) for name in "abc"] == [True, False, True]
