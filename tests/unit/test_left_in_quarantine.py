"""The tree, and whom supervisors before this one left in quarantine."""

from __future__ import annotations

import pytest

from supervisor.tree.model import (
    DesiredChanged,
    Discovered,
    Ended,
    InQuarantine,
    Kill,
    OperatorRestart,
    Probe,
    Quarantined,
    Remembered,
)
from tests.unit.tree_cases import ALL, GBP, SPECS, World, spec, started

REMEMBERED = Remembered(((GBP, 3),), ((GBP, "5 deaths in 60 s: killed"),))


def test_one_that_was_left_in_quarantine_is_not_started() -> None:
    world = World()
    world.send(Discovered(tuple(key for key in ALL if key != GBP)))
    # As they come in one look of the supervisor's loop.
    commands = world.tree.handle(DesiredChanged(SPECS), world.now_s, REMEMBERED)
    assert started(commands) == []
    assert world.tree.children[GBP].state == InQuarantine("5 deaths in 60 s: killed")
    assert world.tree.children[GBP].restarts == 3
    assert started(world.send(OperatorRestart(GBP))) == ["fx/GBP_JPY"]


@pytest.mark.parametrize("starting", [True, False], ids=["starting", "up"])
def test_one_that_came_up_before_its_quarantine_was_known_is_ended_again(starting: bool) -> None:
    world = World()
    world.send(Discovered(tuple(key for key in ALL if key != GBP)))
    commands = world.send(DesiredChanged(SPECS))
    if not starting:
        world.settle(commands)
    [kill] = [one for one in world.send(REMEMBERED) if isinstance(one, Kill)]
    assert (kill.key, kill.attempt) == (GBP, world.attempt(GBP))
    assert [one for one in world.send(Ended(GBP, kill.attempt)) if not isinstance(one, Probe)] == []
    assert isinstance(world.tree.children[GBP].state, InQuarantine)
    assert world.logged(Quarantined) == [], "it was reported before"


@pytest.mark.parametrize("why", ["a person restarts it meanwhile", "its configuration changes", "it lives"])
def test_a_quarantine_that_is_over_is_none(why: str) -> None:
    world = World()
    living = ALL if why == "it lives" else tuple(key for key in ALL if key != GBP)
    world.send(Discovered(living))
    commands = world.send(DesiredChanged(SPECS))
    if why == "a person restarts it meanwhile":
        commands += world.send(OperatorRestart(GBP))
    elif why == "its configuration changes":
        commands += world.send(DesiredChanged(tuple(spec(key, "new" if key == GBP else "") for key in ALL)))
    commands += world.send(REMEMBERED)
    world.settle(commands)
    assert world.states["fx/GBP_JPY"] == "Up"
