"""A machine is emptied before it goes: its actors move one after another, each at work before the next."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, ClassVar

import pytest

from actors.events import EventType
from actors.names import SUPERVISOR
from actors.runtime.cell import Seats
from actors.runtime.deployment import Deployment, LocalCluster
from actors.runtime.nodes import Node, Nodes, place_of
from actors.runtime.ports import ActorUnavailable
from supervisor.changes.requests import ChangeRefused
from supervisor.cli.console import Failure
from supervisor.cli.drain import drain
from supervisor.cli.operate import node_lines
from supervisor.config.loader import load
from supervisor.supervision.draining import Drained
from tests.unit.hall import EVERYBODY, Hall, Status, a_hall, restarts, rows, states
from tests.unit.test_places import FX, NODE_A, NODE_B, NODE_B2, SECTIONS, accounts, on_nodes, per_actor, written
from tests.unit.virtual_time import virtual_time

COMES_UP_IN_S = 2.0


def slow(hall: Hall) -> None:
    """As a process that has to import things."""
    made = hall.cluster.create

    async def create(deployment: Deployment, timeout_s: float, may_begin: asyncio.Event | None = None) -> None:
        await asyncio.sleep(COMES_UP_IN_S)
        await made(deployment, timeout_s, may_begin)

    hall.cluster.create = create  # type: ignore[method-assign]  # a slower one


async def watched(hall: Hall, node: str) -> list[Status]:
    """Every look until nobody is on the node any more and all are in step."""
    seen: list[Status] = []
    for _ in range(2_000):
        status = await hall.supervisor.status()
        seen.append(status)
        if node not in on_nodes(status).values() and status["status"] == "SUCCESS":
            return seen
        await asyncio.sleep(0.05)
    raise AssertionError(f"somebody is still there: {seen[-1]}")


@pytest.mark.parametrize("carried", [1, 10])
@pytest.mark.parametrize("by_ray", [False, True])
def test_a_drained_nodes_actors_move_one_after_another_each_verified_before_the_next(
    tmp_path: Path, carried: int, *, by_ray: bool
) -> None:
    @virtual_time
    async def run() -> None:
        made_of = {"nodes": (NODE_A, NODE_B), "sections": SECTIONS}
        async with a_hall(tmp_path, accounts(more=per_actor(carried)), **made_of) as hall:
            await hall.up()
            others = {name: hall.actor(name) for name in EVERYBODY - FX}
            slow(hall)
            hall.cluster.add_node(NODE_B2)
            await asyncio.sleep(5)  # the supervisor hears of it
            if by_ray:  # its own autoscaler, KubeRay, or `ray drain-node`
                await hall.cluster.drain("b1")
            else:
                drained = await hall.supervisor.drain("10.0.0.2", "tests")
                assert drained.moves == ("fx", "fx/EUR_USD", "fx/GBP_JPY")
                assert (drained.node, drained.words, drained.stays) == ("b1", "10.0.0.2 (zone=b)", {})
            seen = await watched(hall, "b1")
            for status in seen:
                away = {name for name in FX if states(status)[name] != "UP"}
                unverified = {name for name, row in rows(status).items() if row["health"]["verified_age_s"] is None}
                assert len(away) <= 1, "one after another"
                assert len(away | unverified) <= 1 or "fx" in away, "the next when the one before is verified"
            assert {on_nodes(seen[-1])[name] for name in FX} == {"b2"}
            assert {name: restarts(seen[-1], name) for name in EVERYBODY} == dict.fromkeys(EVERYBODY, 0)
            assert {name: hall.actor(name) for name in others} == others, "nobody else is touched"
            assert hall.brokers["fx"].closed, "the connection was ended in order"
            moved = [one for one in written(hall, EventType.ACTOR_RESTARTED) if str(one["reason"]).startswith("moved")]
            assert [one["actor"] for one in moved] == ["fx", "fx/EUR_USD", "fx/GBP_JPY"]
            assert {one["reason"] for one in moved} == {"moved, as its node is to go: 10.0.0.2 (zone=b, being drained)"}
            acts = [one for one in written(hall, EventType.OPERATOR_ACTION) if one["action"] == "drain"]
            assert [(one["node"], one["by"]) for one in acts] == ([] if by_ray else [("10.0.0.2 (zone=b)", "tests")])

    run()


@virtual_time
async def test_who_could_go_nowhere_else_keeps_a_node_from_being_drained_and_forced_stays_until_it_is_lost(
    tmp_path: Path,
) -> None:
    async with a_hall(tmp_path, accounts(), nodes=(NODE_A, NODE_B), sections=SECTIONS) as hall:
        await hall.up()
        there = {name: hall.actor(name) for name in FX}
        with pytest.raises(ChangeRefused, match=r"fx could go nowhere else \(3 in all\): no node has zone=b"):
            await hall.supervisor.drain("10.0.0.2", "tests")
        assert not (await hall.cluster.nodes()).living[1].draining
        drained = await hall.supervisor.drain("10.0.0.2", "tests", force=True)
        assert (drained.moves, set(drained.stays)) == ((), FX)
        await asyncio.sleep(60)
        status = await hall.up()
        assert {name: hall.actor(name) for name in FX} == there
        assert "node 10.0.0.2 (zone=b, being drained): fx, fx/EUR_USD, fx/GBP_JPY" in node_lines(status)
        await hall.cluster.lose_node("b1")
        await hall.until(lambda s: {states(s)[name] for name in FX} == {"PENDING"}, "they wait")
        hall.cluster.add_node(NODE_B2)
        status = await hall.up()
        assert {name: restarts(status, name) for name in FX} == dict.fromkeys(FX, 0)


@virtual_time
async def test_nothing_new_starts_on_a_node_that_is_being_drained(tmp_path: Path) -> None:
    async with a_hall(tmp_path, accounts(), nodes=(NODE_A, NODE_B), sections=SECTIONS) as hall:
        await hall.up()
        await hall.supervisor.drain("10.0.0.2", "tests", force=True)
        await hall.supervisor.restart("fx/EUR_USD", "tests")
        status = await hall.until(lambda s: states(s)["fx/EUR_USD"] == "PENDING", "it waits for another")
        assert "the cluster's nodes have zone=a; zone=b, being drained" in str(rows(status)["fx/EUR_USD"]["error"])
        with pytest.raises(ChangeRefused, match=r"\(2 in all\)"):  # it is no longer there
            await hall.supervisor.drain("10.0.0.2", "tests")


@virtual_time
async def test_the_node_of_the_journal_is_not_drained_and_an_unknown_one_is_named_with_those_there_are(
    tmp_path: Path,
) -> None:
    same, without = Node("b3", place_of({"zone": "c"}), "10.0.0.2"), Node("c1")
    async with a_hall(tmp_path, accounts(), nodes=(NODE_A, NODE_B, same, without), sections=SECTIONS) as hall:
        await hall.up()
        with pytest.raises(ChangeRefused, match="audit, which stays where the journal is"):
            await hall.supervisor.drain("10.0.0.1", "tests", force=True)
        with pytest.raises(ChangeRefused, match=r"there is no such node\. .*b1 at 10\.0\.0\.2 \(zone=b\)"):
            await hall.supervisor.drain("10.0.0.9", "tests")
        with pytest.raises(ChangeRefused, match="there is no such node"):
            await hall.supervisor.drain("", "tests")
        with pytest.raises(ChangeRefused, match="2 nodes are called so"):
            await hall.supervisor.drain("10.0.0.2", "tests")


@virtual_time
async def test_a_cluster_of_our_own_has_no_machine_to_drain(tmp_path: Path) -> None:
    async with a_hall(tmp_path) as hall:
        with pytest.raises(ChangeRefused, match="this cluster is one machine"):
            await hall.supervisor.drain("here", "tests")


@virtual_time
async def test_the_head_of_a_cluster_is_not_drained_nor_a_node_while_it_is_not_known_who_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = Node("b1", place_of({"zone": "b"}), "10.0.0.2", head=True)
    async with a_hall(tmp_path, accounts(), nodes=(NODE_A, head, NODE_B2), sections=SECTIONS) as hall:
        await hall.up()
        with pytest.raises(
            ChangeRefused, match=r"10\.0\.0\.2 \(zone=b\) is the head of the cluster, which ends with it"
        ):
            await hall.supervisor.drain("10.0.0.2", "tests", force=True)

        async def silent(name: str) -> str | None:
            raise ActorUnavailable(name, "on_node", "it does not answer")

        monkeypatch.setattr(hall.cluster, "node_of", silent)
        with pytest.raises(ChangeRefused, match="it is not known whether the supervisor is there"):
            await hall.supervisor.drain("10.0.0.3", "tests", force=True)
        await hall.supervisor.restart("audit", "tests")
        await hall.until(lambda s: on_nodes(s)["audit"] is None, "it ends")
        await hall.until(lambda s: states(s)["audit"] == "UP", "it is up, and nobody knows where")

        async def of_the_supervisor(name: str) -> str | None:
            return "a1" if name == SUPERVISOR else await silent(name)

        monkeypatch.setattr(hall.cluster, "node_of", of_the_supervisor)
        with pytest.raises(ChangeRefused, match="it is not known yet on which node audit runs"):
            await hall.supervisor.drain("10.0.0.3", "tests", force=True)
        assert not any(node.draining for node in (await hall.cluster.nodes()).living)


@virtual_time
async def test_a_cluster_that_does_not_report_its_nodes_is_drained_of_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away() -> Nodes:
        raise ActorUnavailable("the cluster", "nodes", "its GCS does not answer")

    monkeypatch.setattr(LocalCluster, "nodes", lambda _: away())
    async with a_hall(tmp_path, accounts(), nodes=(NODE_A, NODE_B), sections=SECTIONS) as hall:
        with pytest.raises(ChangeRefused, match="the cluster does not report its nodes"):
            await hall.supervisor.drain("10.0.0.2", "tests")


@virtual_time
async def test_a_node_that_has_just_joined_is_known_and_one_drained_twice_is_drained_once(tmp_path: Path) -> None:
    async with a_hall(tmp_path, accounts(), nodes=(NODE_A, NODE_B), sections=SECTIONS) as hall:
        await hall.up()
        hall.cluster.add_node(NODE_B2)
        first = await hall.supervisor.drain("10.0.0.2", "tests")
        again = await hall.supervisor.drain("10.0.0.2", "tests")
        assert (first.moves, first.stays) == (("fx", "fx/EUR_USD", "fx/GBP_JPY"), {})
        assert (again.node, again.stays) == ("b1", {})
        await watched(hall, "b1")
        assert (await hall.supervisor.drain("b1", "tests")).moves == ()
        moved = [one for one in written(hall, EventType.ACTOR_RESTARTED) if str(one["reason"]).startswith("moved")]
        assert [one["actor"] for one in moved] == ["fx", "fx/EUR_USD", "fx/GBP_JPY"]


@virtual_time
async def test_one_that_is_being_restarted_keeps_its_last_node_from_being_drained_too(tmp_path: Path) -> None:
    async with a_hall(tmp_path, accounts(), nodes=(NODE_A, NODE_B), sections=SECTIONS) as hall:
        await hall.up()
        slow(hall)
        await hall.cluster.kill("fx/GBP_JPY")
        await hall.until(lambda s: states(s)["fx/GBP_JPY"] != "UP", "it has died")
        with pytest.raises(ChangeRefused, match=r"\(3 in all\)"):
            await hall.supervisor.drain("10.0.0.2", "tests")


@virtual_time
async def test_a_supervisor_that_is_stopping_drains_nothing(tmp_path: Path) -> None:
    async with a_hall(tmp_path, accounts(), nodes=(NODE_A, NODE_B), sections=SECTIONS) as hall:
        await hall.up()
        await hall.supervisor.stop()
        with pytest.raises(ChangeRefused, match="the supervisor is stopping"):
            await hall.supervisor.drain("10.0.0.2", "tests", force=True)
        assert not any(node.draining for node in (await hall.cluster.nodes()).living)


@virtual_time
async def test_a_node_that_is_lost_while_it_is_drained_loses_nothing_and_counts_for_nothing(tmp_path: Path) -> None:
    async with a_hall(tmp_path, accounts(), nodes=(NODE_A, NODE_B, NODE_B2), sections=SECTIONS) as hall:
        status = await hall.up()
        away, other = ("10.0.0.2", "b2") if on_nodes(status)["fx"] == "b1" else ("10.0.0.3", "b1")
        slow(hall)
        await hall.supervisor.drain(away, "tests")
        await hall.until(lambda s: states(s)["fx"] != "UP", "the account is on its way")
        await hall.cluster.lose_node("b1" if other == "b2" else "b2")
        status = await hall.until(
            lambda s: s["status"] == "SUCCESS" and {on_nodes(s)[name] for name in FX} == {other}, "all are elsewhere"
        )
        assert {name: restarts(status, name) for name in EVERYBODY} == dict.fromkeys(EVERYBODY, 0)


@virtual_time
async def test_one_that_died_on_its_way_is_restarted_elsewhere_before_the_next_leaves(tmp_path: Path) -> None:
    async with a_hall(tmp_path, accounts(), nodes=(NODE_A, NODE_B, NODE_B2), sections=SECTIONS) as hall:
        status = await hall.up()
        fx = on_nodes(status)["fx"]
        slow(hall)
        await hall.supervisor.drain("10.0.0.2" if fx == "b1" else "10.0.0.3", "tests")
        await hall.until(lambda s: states(s)["fx"] != "UP", "the account is on its way")
        await hall.until(lambda s: states(s)["fx"] == "UP", "it is up elsewhere")
        await hall.cluster.kill("fx")
        await hall.until(lambda s: states(s)["fx"] != "UP", "it has died there")
        for status in await watched(hall, str(fx)):
            if states(status)["fx"] != "UP":
                assert {states(status)[name] for name in FX - {"fx"}} == {"UP"}, "nobody leaves meanwhile"
        assert restarts(status, "fx") == 1, "that one counts"


@virtual_time
async def test_one_whose_node_is_known_late_is_not_moved_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with a_hall(tmp_path, accounts(), nodes=(NODE_A, NODE_B, NODE_B2), sections=SECTIONS) as hall:
        status = await hall.up()
        fx, answer = on_nodes(status)["fx"], hall.cluster.node_of
        silent_s = asyncio.get_running_loop().time() + 20

        async def late(name: str) -> str | None:
            if name in FX and asyncio.get_running_loop().time() < silent_s:
                raise ActorUnavailable(name, "on_node", "it does not answer")
            return await answer(name)

        monkeypatch.setattr(hall.cluster, "node_of", late)
        await hall.supervisor.drain("10.0.0.2" if fx == "b1" else "10.0.0.3", "tests")
        await asyncio.sleep(40)
        status = await hall.up()
        assert {on_nodes(status)[name] for name in FX} == {"b2" if fx == "b1" else "b1"}
        moved = [one for one in written(hall, EventType.ACTOR_RESTARTED) if str(one["reason"]).startswith("moved")]
        assert [one["actor"] for one in moved] == ["fx", "fx/EUR_USD", "fx/GBP_JPY"]


def test_one_that_moves_takes_no_seat_in_a_cell_that_is_to_go_or_is_of_another_place() -> None:
    seats, a, b = Seats(), place_of({"zone": "a"}), place_of({"zone": "b"})
    assert [seats.take(one, "fx", 10, a) for one in ("fx/A", "fx/B")] == ["fx~1", "fx~1"]
    assert seats.take("fx/A", "fx", 10, b) == "fx~2", "while another is still in the cell of the place before"
    assert seats.take("fx/C", "fx", 10, b) == "fx~2"
    assert seats.take("fx/C", "fx", 10, b, {"fx~2"}) == "fx~3"
    assert seats.take("fx/A", "fx", 10, b) == "fx~2", "who is not to go stays"


def test_the_command_says_who_has_left_and_ends_with_3_where_somebody_stays(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    rows = [
        {"name": "fx", "state": "UP", "reason": None, "node": {"id": "b2", "address": "10.0.0.3"}},
        {"name": "fx/A", "state": "PENDING", "reason": "no node has zone=b", "node": None},
        {"name": "cfd", "state": "UP", "reason": None, "node": {"id": "b1", "address": "10.0.0.2"}},
    ]

    class Answers:
        stays: ClassVar[dict[str, str]] = {"cfd": "no node has gateway=mt5"}

        def drain(self, node: str, *, force: bool) -> Drained:
            if not force:
                raise ChangeRefused(f"drain {node}", "cfd could go nowhere else", "With --force it stays.")
            return Drained("b1", "10.0.0.2 (zone=b)", ("fx", "fx/A"), self.stays)

        def status(self) -> dict[str, Any]:
            return {"supervisor": {"actors": rows}}

    monkeypatch.setattr("supervisor.cli.drain.find", lambda _: Answers())
    configuration = load(an_account(tmp_path))
    with pytest.raises(Failure, match=r"nothing was changed: drain 10\.0\.0\.2: cfd could go nowhere else"):
        drain(configuration, "10.0.0.2", force=False)
    assert drain(configuration, "10.0.0.2", force=True) == 3
    printed = capsys.readouterr()
    assert printed.out.splitlines() == ["draining 10.0.0.2 (zone=b): fx, fx/A to move", "fx is at 10.0.0.3"]
    assert "cfd stays until it is gone: no node has gateway=mt5" in printed.err
    assert "fx/A has left, and does not run: no node has zone=b" in printed.err
    Answers.stays = {}
    assert drain(configuration, "10.0.0.2", force=True) == 0

    def silent(_: Answers) -> dict[str, Any]:
        raise ActorUnavailable("supervisor", "status", "it has ended")

    monkeypatch.setattr(Answers, "status", silent)
    monkeypatch.setattr("supervisor.cli.drain.SILENT_FOR_S", 0.0)
    with pytest.raises(Failure, match="It goes on draining when it answers again") as failed:
        drain(configuration, "10.0.0.2", force=True)
    assert failed.value.status == 3


def an_account(directory: Path) -> Path:
    path = directory / "accounts.yaml"
    path.write_text(f"journal: {{url: 'sqlite:///{directory}/journal.db'}}\naccounts: {accounts()}")
    return path
