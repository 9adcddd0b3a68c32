"""The tree while code is upgraded actor by actor: who is replaced when, what ends it, and what is left alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from actors.runtime.nodes import Node, Nodes
from supervisor.tree.model import (
    ALERTS,
    AUDIT,
    ChildKey,
    ChildSpec,
    Command,
    DesiredChanged,
    Died,
    Discovered,
    Ended,
    GiveUpRoll,
    HandedOver,
    InQuarantine,
    Kill,
    Kind,
    NodesSeen,
    OperatorRestart,
    PlacedOn,
    ProbeAnswered,
    Roll,
    Rolled,
    Start,
    Started,
    StartFailed,
    Stop,
    Tick,
)
from tests.unit.tree_cases import ALL, CFD, EUR, FX, GBP, POLICY, XAU, World, spec, stopped

SINK = ChildKey(Kind.SINK, "sink:1")
EVERYBODY = (*ALL, ALERTS, SINK)
SPECS = tuple(map(spec, EVERYBODY))
ORDER = ["cfd/XAUUSD", "cfd", "fx/EUR_USD", "fx/GBP_JPY", "fx", "audit", "sink:1", "alerts"]


def answers(world: World, key: ChildKey, program: str, *, well: bool = True, fingerprint: str = "") -> list[Command]:
    """It answers a probe; where it is not well it has finished a cycle that verified nothing."""
    attempt, due = world.attempt(key), key.kind is Kind.INSTRUMENT
    answer = ProbeAnswered(key, attempt, 0.0 if due else None, due, fingerprint, due and well, program, well)
    return world.send(answer)


def found(program: str = "1", *, specs: tuple[ChildSpec, ...] = SPECS) -> World:
    """A supervisor of version 2 finds everybody alive, of another version."""
    world = World(program="2")
    world.send(Discovered(tuple(one.key for one in specs)))
    world.send(DesiredChanged(specs))
    for one in specs:
        answers(world, one.key, program)
    return world


def comes_up(world: World, key: ChildKey, program: str = "2", *, well: bool = True) -> list[Command]:
    """It ends, starts and answers."""
    ends(world, key)
    return answers(world, key, program, well=well)


def ends(world: World, key: ChildKey) -> None:
    """It ends, and is started anew; it has not answered since."""
    started = [one for one in world.send(Ended(key, world.attempt(key))) if isinstance(one, Start)]
    assert [one.spec.key for one in started] == [key]
    world.send(Started(key, started[0].attempt), after_s=1)


def run(world: World, commands: list[Command]) -> list[str]:
    """Everybody who is replaced comes up; returns their names, in order."""
    names: list[str] = []
    by_name = {key.name: key for key in world.tree.children}
    while here := stopped(commands):
        names += here
        for name in here:
            commands = comes_up(world, by_name[name])
    return names


def test_everybody_is_replaced_in_order_one_at_a_time_and_no_restart_is_counted() -> None:
    world = found()
    assert run(world, world.send(Roll("2"))) == ORDER
    assert world.logged(Rolled) == [Rolled("2")]
    assert [one.key.name for one in world.logged(HandedOver)] == ORDER, "each once"
    assert {one.reason for one in world.logged(HandedOver)} == {"replaced: 1 → 2"}
    assert {one.programs for one in world.logged(HandedOver)} == {("1", "2")}
    assert {child.restarts for child in world.tree.children.values()} == {0}
    assert {child.program for child in world.tree.children.values()} == {"2"}


def test_the_next_is_replaced_when_the_one_before_runs_the_version_and_is_as_well_as_it_was() -> None:
    world = found()
    assert stopped(world.send(Roll("2"))) == ["cfd/XAUUSD"]
    ends(world, XAU)
    assert stopped(answers(world, XAU, "2", well=False)) == [], "a cycle that verified nothing is none"
    assert stopped(answers(world, XAU, "2")) == ["cfd"]
    ends(world, CFD)
    assert stopped(answers(world, CFD, "2", well=False)) == [], "it is not connected yet"
    assert stopped(answers(world, CFD, "2")) == ["fx/EUR_USD"]


def test_who_was_not_well_before_need_only_answer() -> None:
    world = found()
    answers(world, XAU, "1", well=False)  # its market is closed, or it is paused, or a break is open
    answers(world, CFD, "1", well=False)
    world.send(Roll("2"))
    assert stopped(comes_up(world, XAU, well=False)) == ["cfd"]
    assert stopped(comes_up(world, CFD, well=False)) == ["fx/EUR_USD"]


def test_the_first_that_is_not_well_in_time_ends_it_and_the_others_stay_as_they_are() -> None:
    world = found()
    world.send(Roll("2"))
    ends(world, XAU)
    for _ in range(59):
        assert answers(world, XAU, "2", well=False) == []
        for key in EVERYBODY:
            if key != XAU:
                answers(world, key, "1")
        assert stopped(world.send(Tick(), after_s=1)) == []
    world.send(Tick(), after_s=1)
    assert world.logged(Rolled) == [Rolled("2", XAU, "it is not as well as it was 60 s after it came up")]
    assert len(world.logged(HandedOver)) == 1
    assert {child.program for key, child in world.tree.children.items() if key != XAU} == {"1"}


@pytest.mark.parametrize("permanent", [False, True])
def test_one_that_does_not_start_ends_it_and_is_restarted_as_its_policy_says(*, permanent: bool) -> None:
    world = found()
    world.send(Roll("2"))
    world.send(Ended(XAU, world.attempt(XAU)))
    world.send(StartFailed(XAU, world.attempt(XAU), "SyntaxError", permanent=permanent))
    assert world.logged(Rolled) == [Rolled("2", XAU, "SyntaxError")]
    assert stopped(world.send(Tick(), after_s=1)) == []
    assert world.states["cfd/XAUUSD"] == ("InQuarantine" if permanent else "Starting")


def test_one_that_comes_up_and_dies_ends_it() -> None:
    world = found()
    world.send(Roll("2"))
    ends(world, XAU)
    world.send(Died(XAU, world.attempt(XAU), "its process has ended"))
    assert world.logged(Rolled) == [Rolled("2", XAU, "its process has ended")]


def test_one_that_comes_up_with_another_version_ends_it() -> None:
    world = found()
    world.send(Roll("2"))
    comes_up(world, XAU, "1")
    [rolled] = world.logged(Rolled)
    assert (rolled.failed, rolled.reason) == (XAU, "it came up with 1: 2 is not installed where it runs")
    assert stopped(world.send(Tick(), after_s=100)) == []


def test_repeated_it_skips_those_that_run_the_version() -> None:
    world = found()
    world.send(Roll("2"))
    comes_up(world, XAU)
    comes_up(world, CFD, "1")
    assert world.logged(Rolled)[-1].failed == CFD
    assert run(world, world.send(Roll("2"))) == ORDER[1:]
    assert world.logged(Rolled)[-1] == Rolled("2")
    assert stopped(world.send(Roll("2"))) == []
    assert world.logged(Rolled)[-2:] == [Rolled("2")] * 2, "there was nothing left"


def test_it_waits_for_the_version_of_everybody_who_is_up_or_comes_up() -> None:
    world = World(program="2")
    world.send(Discovered(EVERYBODY))
    world.send(DesiredChanged(SPECS))
    world.send(Roll("2"))
    for key in EVERYBODY[:-1]:
        answers(world, key, "2")
    assert world.logged(Rolled) == []
    assert stopped(answers(world, SINK, "1")) == ["sink:1"]
    assert comes_up(world, SINK)[-1:] == [Rolled("2")]


def test_nobody_is_replaced_before_the_version_of_all_who_are_up_is_known() -> None:
    world = World(program="2")
    world.send(Discovered(EVERYBODY))
    world.send(DesiredChanged(SPECS))
    world.send(Roll("2"))
    for key in (AUDIT, ALERTS, SINK, FX, CFD, GBP, EUR):
        assert stopped(answers(world, key, "1")) == [], "the order would be by chance"
    assert stopped(answers(world, XAU, "1")) == ["cfd/XAUUSD"]


def test_who_is_quarantined_is_left_there_and_starts_with_the_version_when_it_is_released() -> None:
    world = found()
    for _ in range(3):
        world.settle([*world.die(GBP, after_s=1), *world.send(Tick(), after_s=9)])
    assert isinstance(world.tree.children[GBP].state, InQuarantine)
    for key in EVERYBODY:
        if key != GBP:
            answers(world, key, "1")
    assert run(world, world.send(Roll("2"))) == [name for name in ORDER if name != "fx/GBP_JPY"]
    assert world.logged(Rolled) == [Rolled("2")]
    assert isinstance(world.tree.children[GBP].state, InQuarantine)
    assert [one.spec.key for one in world.send(OperatorRestart(GBP)) if isinstance(one, Start)] == [GBP]


def test_those_that_wait_for_an_account_in_quarantine_do_not_keep_it_from_its_end() -> None:
    world = World(program="2")
    world.send(Discovered((AUDIT, FX, GBP)))
    world.send(DesiredChanged(SPECS[:3] + SPECS[3:4] + SPECS[5:6]))  # with cfd and its instrument, which do not run yet
    world.send(StartFailed(CFD, world.attempt(CFD), "no adapter", permanent=True))
    world.settle([one for one in world.log if isinstance(one, Kill)])
    assert (world.states["cfd"], world.states["cfd/XAUUSD"]) == ("InQuarantine", "Absent")
    for key in (AUDIT, FX, GBP):
        answers(world, key, "1")
    assert run(world, world.send(Roll("2"))) == ["fx/GBP_JPY", "fx", "audit"]
    assert world.logged(Rolled) == [Rolled("2")]


def test_repeated_at_once_it_waits_for_the_one_that_had_failed() -> None:
    world = found()
    world.send(Roll("2"))
    world.send(Ended(XAU, world.attempt(XAU)))
    world.send(StartFailed(XAU, world.attempt(XAU), "SyntaxError"))
    world.send(Tick(), after_s=2)
    assert world.states["cfd/XAUUSD"] == "Starting"
    assert stopped(world.send(Roll("2"))) == [], "two of one account would be away"
    world.send(Started(XAU, world.attempt(XAU)))
    assert stopped(answers(world, XAU, "2")) == ["cfd"]


def test_one_that_left_the_configuration_meanwhile_is_not_waited_for() -> None:
    world = found()
    world.send(Roll("2"))
    commands = world.send(DesiredChanged(tuple(one for one in SPECS if one.key != XAU)))
    assert stopped(commands) == ["cfd"], "the one being replaced ends, and nobody waits for it"


def test_one_is_moved_or_replaced_at_a_time_where_a_node_is_drained_too() -> None:
    a, b = Node("a1"), Node("b1")
    world = found()
    world.send(NodesSeen(Nodes((a, b))))
    for key in EVERYBODY:
        world.send(PlacedOn(key, world.attempt(key), "b1" if key in (CFD, XAU) else "a1"))
    assert stopped(world.send(NodesSeen(Nodes((a, replace(b, draining=True)))))) == ["cfd"]
    assert stopped(world.send(Roll("2"))) == []
    assert stopped(comes_up(world, CFD)) == ["cfd/XAUUSD"], "the next that leaves the node"
    assert stopped(comes_up(world, XAU)) == ["fx/EUR_USD"], "those two run the version now"


def test_those_that_share_a_process_are_replaced_some_at_once_and_of_one_account() -> None:
    specs = tuple(replace(one, carried=one.key.kind is Kind.INSTRUMENT) for one in SPECS)
    world = World(replace(POLICY, carried_at_once=2), program="2")
    world.send(Discovered(EVERYBODY))
    world.send(DesiredChanged(specs))
    for key in EVERYBODY:
        answers(world, key, "1")
    assert stopped(world.send(Roll("2"))) == ["cfd/XAUUSD"]
    assert stopped(comes_up(world, XAU)) == ["cfd"]
    assert stopped(comes_up(world, CFD)) == ["fx/EUR_USD", "fx/GBP_JPY"]
    assert stopped(comes_up(world, EUR)) == [], "the next step waits for all of this one"
    assert stopped(comes_up(world, GBP)) == ["fx"]


def test_settings_that_another_version_knows_otherwise_restart_nobody_before_its_turn() -> None:
    world = found()
    for key in EVERYBODY:
        assert stopped(answers(world, key, "1", fingerprint="of other fields")) == []
    assert stopped(world.send(Tick(), after_s=1)) == []
    assert stopped(answers(world, EUR, "2", fingerprint="older settings")) == ["fx/EUR_USD"], "of its own it knows"


def test_given_up_it_replaces_nobody_further() -> None:
    world = found()
    world.send(Roll("2"))
    world.send(GiveUpRoll())
    assert stopped(comes_up(world, XAU)) == []
    assert stopped(world.send(Tick(), after_s=1)) == []
    assert world.logged(Rolled) == []


def test_a_stop_of_everything_ends_it_in_the_order_of_a_stop() -> None:
    world = found()
    world.send(Roll("2"))
    world.settle(world.send(DesiredChanged(())))
    world.settle(world.send(Ended(XAU, world.attempt(XAU))))
    assert {one.key for one in world.logged(Stop)} == set(EVERYBODY)
    assert world.tree.stopped
    assert world.logged(Rolled) == [], "it has not come to its end"
