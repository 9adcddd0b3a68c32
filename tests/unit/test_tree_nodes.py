"""The tree beside a cluster whose nodes come and go: what is pending, what is forgiven, and what counts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from actors.runtime.nodes import Node, Nodes, Place, place_of
from supervisor.tree.model import (
    AUDIT,
    Absent,
    ChildKey,
    Command,
    DesiredChanged,
    Died,
    Discovered,
    Ended,
    HandedOver,
    InQuarantine,
    Kill,
    NodeLost,
    NodesSeen,
    NoPlace,
    Pending,
    PlacedOn,
    ProbeAnswered,
    Start,
    Started,
    StartFailed,
    Tick,
)
from supervisor.tree.tree import FORGIVEN_WITHIN_S
from tests.unit.tree_cases import EUR, FX, GBP, World, spec, stopped

PLACE = place_of({"zone": "b"})
A, B, B2 = Node("a1", place_of({"zone": "a"})), Node("b1", PLACE), Node("b2", PLACE)
SPECS = (spec(AUDIT), replace(spec(FX), place=PLACE), replace(spec(GBP), place=PLACE))


def a_world(*nodes: Node) -> World:
    world = World()
    world.send(NodesSeen(Nodes(nodes)))
    world.up(desired=SPECS)
    for key in (FX, GBP):
        world.send(PlacedOn(key, world.tree.children[key].attempt, "b1"))
    return world


def died(world: World) -> None:
    world.send(Died(FX, world.tree.children[FX].attempt, "its process has ended"), after_s=1)


def restarts(world: World) -> int:
    return world.tree.children[FX].restarts


def test_nothing_that_has_a_place_starts_before_the_nodes_are_known() -> None:
    world = World()
    world.settle([*world.send(Discovered(())), *world.send(DesiredChanged(SPECS))])
    assert {one.spec.key for one in world.log if isinstance(one, Start)} == {AUDIT}
    world.settle(world.send(NodesSeen(Nodes((A, B)))))
    assert {one.spec.key for one in world.log if isinstance(one, Start)} == {AUDIT, FX, GBP}


def test_one_that_is_starting_as_its_last_node_goes_is_ended_and_waits() -> None:
    world = a_world(A, B)
    died(world)
    world.send(Tick(), after_s=2)
    start = [one for one in world.logged(Start) if one.spec.key == FX][-1]
    assert start.attempt > 0
    commands = world.send(NodesSeen(Nodes((A,))))
    assert Kill(FX, start.attempt, "no node has zone=b: the cluster's nodes have zone=a. Start one with: ray start "
                "--address=HOST:PORT --labels=zone=b, or change place") in commands  # fmt: skip
    before = restarts(world)
    commands = world.send(Ended(FX, start.attempt))
    assert isinstance(world.tree.children[FX].state, Pending)
    assert [one.key for one in commands if isinstance(one, NoPlace)] == [FX]
    assert restarts(world) == before


def test_a_start_that_failed_as_a_node_was_lost_counts_for_nothing() -> None:
    world = a_world(A, B, B2)
    world.send(NodesSeen(Nodes((A, B2), (B,))), after_s=1)
    attempt = world.tree.children[FX].attempt
    [start] = [one for one in world.send(Ended(FX, attempt)) if isinstance(one, Start)]
    world.send(NodesSeen(Nodes((A, B), (B2,))), after_s=1)
    commands = world.send(StartFailed(FX, start.attempt, "not up"), after_s=1)
    assert [type(one) for one in commands if not isinstance(one, Start)] == [NodeLost]
    assert restarts(world) == 0


def test_one_that_is_being_killed_as_its_node_is_found_lost_did_not_hang() -> None:
    world = a_world(A, B, B2)
    hung = world.tree.children[FX]
    for _ in range(40):
        if any(isinstance(one, Kill) and one.key == FX for one in world.log):
            break
        world.send(Tick(), after_s=1)
    world.send(NodesSeen(Nodes((A, B2), (B,))))
    commands = world.send(Ended(FX, hung.attempt))
    assert [one.key for one in commands if isinstance(one, NodeLost)] == [FX]
    assert restarts(world) == 0


@pytest.mark.parametrize(("later_s", "forgiven"), [(10, True), (FORGIVEN_WITHIN_S + 1, False)])
def test_a_death_is_forgiven_when_its_node_is_found_lost_soon_after_and_not_long_after(
    later_s: float, *, forgiven: bool
) -> None:
    world = a_world(A, B)
    died(world)
    assert restarts(world) == 1
    commands = world.send(NodesSeen(Nodes((A,), (B,))), after_s=later_s)
    assert [one.forgives for one in commands if isinstance(one, NodeLost) and one.key == FX] == [True] * forgiven
    assert restarts(world) == (0 if forgiven else 1)


def test_a_quarantine_for_deaths_of_which_the_last_was_the_nodes_ends() -> None:
    world = a_world(A, B)
    for _ in range(3):
        commands = world.die(FX, after_s=1)
        world.settle([*commands, *world.send(Tick(), after_s=9)])
        world.send(PlacedOn(FX, world.attempt(FX), "b1"))
    assert isinstance(world.tree.children[FX].state, InQuarantine)
    world.send(NodesSeen(Nodes((A,), (B,))), after_s=1)
    assert isinstance(world.tree.children[FX].state, Absent | Pending)


def drained_world(of_the_instruments: Place = PLACE) -> World:
    """The account has left its node, which is draining, and its instruments have not."""
    instruments = (replace(spec(one), place=of_the_instruments) for one in (EUR, GBP))
    world = World()
    world.send(NodesSeen(Nodes((A, B, B2))))
    world.up(desired=(spec(AUDIT), replace(spec(FX), place=PLACE), *instruments))
    for key in (FX, EUR, GBP):
        world.send(PlacedOn(key, world.attempt(key), "b1"))
    assert stopped(world.send(NodesSeen(Nodes((A, replace(B, draining=True), B2))))) == ["fx"]
    return world


def comes_up(world: World, key: ChildKey) -> list[Command]:
    """On another node; it has not answered since."""
    world.send(Ended(key, world.attempt(key)))
    return world.send(Started(key, world.attempt(key)), after_s=1)


def test_an_instrument_leaves_a_draining_node_when_its_account_answers_and_the_next_when_it_is_verified() -> None:
    world = drained_world()
    assert stopped(comes_up(world, FX)) == []
    assert stopped(world.answer(FX, None, due=False)) == ["fx/EUR_USD"]
    assert stopped(comes_up(world, EUR)) == []
    assert stopped(world.answer(EUR, 0.0)) == [], "a cycle that verified nothing is none"
    proof = ProbeAnswered(EUR, world.attempt(EUR), 0.0, verified=True)
    assert stopped(world.send(proof)) == ["fx/GBP_JPY"]
    world.send(PlacedOn(EUR, world.attempt(EUR), "b2"))
    comes_up(world, GBP)
    world.answer(GBP, 0.0)
    assert [one.key for one in world.logged(HandedOver)] == [FX, EUR, GBP], "each once"
    assert {child.restarts for child in world.tree.children.values()} == {0}


def test_a_broker_that_is_away_does_not_keep_a_node_from_being_emptied() -> None:
    world = drained_world()
    comes_up(world, FX)
    world.answer(FX, None, due=False)
    comes_up(world, EUR)
    for _ in range(16):
        world.answer(GBP, 0.0, after_s=1)
        assert stopped(world.answer(EUR, 0.0)) == []
    assert stopped(world.answer(EUR, 0.0, after_s=1)) == ["fx/GBP_JPY"]


def test_one_that_cannot_be_made_elsewhere_does_not_keep_the_others_on_a_draining_node() -> None:
    world = drained_world()
    world.send(Ended(FX, world.attempt(FX)))
    commands = world.send(StartFailed(FX, world.attempt(FX), "no adapter", permanent=True))
    assert isinstance(world.tree.children[FX].state, InQuarantine)
    assert stopped(commands) == ["fx/EUR_USD"]


def test_one_whose_other_node_goes_meanwhile_waits_and_those_that_may_go_elsewhere_leave() -> None:
    world = drained_world(of_the_instruments=())
    world.send(NodesSeen(Nodes((A, replace(B, draining=True)))))
    commands = world.send(Ended(FX, world.attempt(FX)))
    assert isinstance(world.tree.children[FX].state, Pending)
    assert stopped(commands) == []
    assert stopped(world.send(Tick(), after_s=1)) == ["fx/EUR_USD"]
