"""The tree beside a cluster whose nodes come and go: what is pending, what is forgiven, and what counts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from actors.runtime.nodes import Node, Nodes, place_of
from supervisor.tree.model import (
    AUDIT,
    Absent,
    DesiredChanged,
    Died,
    Discovered,
    Ended,
    InQuarantine,
    Kill,
    NodeLost,
    NodesSeen,
    NoPlace,
    Pending,
    PlacedOn,
    Start,
    StartFailed,
    Tick,
)
from supervisor.tree.tree import FORGIVEN_WITHIN_S
from tests.unit.tree_cases import FX, GBP, World, spec

PLACE = place_of({"zone": "b"})
A, B, B2 = Node("a1", place_of({"zone": "a"})), Node("b1", PLACE), Node("b2", PLACE)
SPECS = (spec(AUDIT), replace(spec(FX), place=PLACE), replace(spec(GBP), place=PLACE))


def a_world(*nodes: Node) -> World:
    world = World()
    world.tell(NodesSeen(Nodes(nodes)))
    world.up(desired=SPECS)
    for key in (FX, GBP):
        world.tell(PlacedOn(key, world.tree.children[key].attempt, "b1"))
    return world


def died(world: World) -> None:
    world.tell(Died(FX, world.tree.children[FX].attempt, "its process has ended"), after_s=1)


def restarts(world: World) -> int:
    return world.tree.children[FX].restarts


def test_nothing_that_has_a_place_starts_before_the_nodes_are_known() -> None:
    world = World()
    world.settle([*world.tell(Discovered(())), *world.tell(DesiredChanged(SPECS))])
    assert {one.spec.key for one in world.log if isinstance(one, Start)} == {AUDIT}
    world.settle(world.tell(NodesSeen(Nodes((A, B)))))
    assert {one.spec.key for one in world.log if isinstance(one, Start)} == {AUDIT, FX, GBP}


def test_one_that_is_starting_as_its_last_node_goes_is_ended_and_waits() -> None:
    world = a_world(A, B)
    died(world)
    world.tell(Tick(), after_s=2)
    start = [one for one in world.logged(Start) if one.spec.key == FX][-1]
    assert start.attempt > 0
    commands = world.tell(NodesSeen(Nodes((A,))))
    assert Kill(FX, start.attempt, "no node has zone=b: the cluster's nodes have zone=a. Start one with: ray start "
                "--address=HOST:PORT --labels=zone=b, or change place") in commands  # fmt: skip
    before = restarts(world)
    commands = world.tell(Ended(FX, start.attempt))
    assert isinstance(world.tree.children[FX].state, Pending)
    assert [one.key for one in commands if isinstance(one, NoPlace)] == [FX]
    assert restarts(world) == before


def test_a_start_that_failed_as_a_node_was_lost_counts_for_nothing() -> None:
    world = a_world(A, B, B2)
    world.tell(NodesSeen(Nodes((A, B2), (B,))), after_s=1)
    attempt = world.tree.children[FX].attempt
    [start] = [one for one in world.tell(Ended(FX, attempt)) if isinstance(one, Start)]
    world.tell(NodesSeen(Nodes((A, B), (B2,))), after_s=1)
    commands = world.tell(StartFailed(FX, start.attempt, "not up"), after_s=1)
    assert [type(one) for one in commands if not isinstance(one, Start)] == [NodeLost]
    assert restarts(world) == 0


def test_one_that_is_being_killed_as_its_node_is_found_lost_did_not_hang() -> None:
    world = a_world(A, B, B2)
    hung = world.tree.children[FX]
    for _ in range(40):
        if any(isinstance(one, Kill) and one.key == FX for one in world.log):
            break
        world.tell(Tick(), after_s=1)
    world.tell(NodesSeen(Nodes((A, B2), (B,))))
    commands = world.tell(Ended(FX, hung.attempt))
    assert [one.key for one in commands if isinstance(one, NodeLost)] == [FX]
    assert restarts(world) == 0


@pytest.mark.parametrize(("later_s", "forgiven"), [(10, True), (FORGIVEN_WITHIN_S + 1, False)])
def test_a_death_is_forgiven_when_its_node_is_found_lost_soon_after_and_not_long_after(
    later_s: float, *, forgiven: bool
) -> None:
    world = a_world(A, B)
    died(world)
    assert restarts(world) == 1
    commands = world.tell(NodesSeen(Nodes((A,), (B,))), after_s=later_s)
    assert [one.forgives for one in commands if isinstance(one, NodeLost) and one.key == FX] == [True] * forgiven
    assert restarts(world) == (0 if forgiven else 1)


def test_a_quarantine_for_deaths_of_which_the_last_was_the_nodes_ends() -> None:
    world = a_world(A, B)
    for _ in range(3):
        commands = world.die(FX, after_s=1)
        world.settle([*commands, *world.tell(Tick(), after_s=9)])
        world.tell(PlacedOn(FX, world.attempt(FX), "b1"))
    assert isinstance(world.tree.children[FX].state, InQuarantine)
    world.tell(NodesSeen(Nodes((A,), (B,))), after_s=1)
    assert isinstance(world.tree.children[FX].state, Absent | Pending)
