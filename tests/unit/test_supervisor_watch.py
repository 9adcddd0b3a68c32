"""Somebody watches the watcher: a supervisor that hangs is killed once, and what is shown meanwhile says its age."""

from __future__ import annotations

import pytest

from supervisor.cli.session_child import GONE_AFTER_S, HUNG_AFTER_S, SupervisorGone, SupervisorWatch

PID = 4711


def watch(killed: list[int], *, lives: bool = True, here: bool = True) -> SupervisorWatch:
    made = SupervisorWatch(killed.append if here else None, lambda _: lives, 0.0)
    made.heard(PID, 100.0)
    return made


def test_a_silence_says_how_old_the_picture_is_and_kills_nobody() -> None:
    killed: list[int] = []
    assert watch(killed).silent("no answer within 3 s", 104.0) == (
        "what is shown is 4 s old: the supervisor does not answer (no answer within 3 s), waiting for it"
    )
    assert killed == []


def test_one_that_hangs_is_killed_once_for_each_silence() -> None:
    killed: list[int] = []
    watcher = watch(killed)
    for late_s in (1.0, 3.0, 5.0):
        words = watcher.silent("no answer", 100.0 + HUNG_AFTER_S + late_s)
        assert f"process {PID} was killed and is being brought back" in words
    assert killed == [PID]
    watcher.heard(PID + 1, 130.0)
    assert "was killed" not in watcher.silent("no answer", 133.0)
    watcher.silent("no answer", 131.0 + HUNG_AFTER_S)
    assert killed == [PID, PID + 1]


@pytest.mark.parametrize(("lives", "here"), [(False, True), (True, False)], ids=["it died", "on another machine"])
def test_nothing_is_killed_that_is_not_its_process(lives: bool, here: bool) -> None:
    killed: list[int] = []
    watch(killed, lives=lives, here=here).silent("it has died", 100.0 + HUNG_AFTER_S + 1)
    assert killed == []


def test_one_that_never_comes_back_ends_the_watch() -> None:
    with pytest.raises(SupervisorGone, match="has not answered for 60 s: it has died"):
        watch([]).silent("it has died", 101.0 + GONE_AFTER_S)


def test_one_that_ended_by_itself_is_made_anew_and_that_is_reported_until_it_answers() -> None:
    answers = [False, True, False, False]
    watcher = SupervisorWatch(None, lambda _: False, 0.0, lambda: answers.pop(0))
    watcher.heard(PID, 100.0)
    assert "waiting for it" in watcher.silent("its process has ended", 101.0)
    for later_s in (103.0, 104.0):
        assert "without being stopped, and is being started again" in watcher.silent("its process has ended", later_s)
    watcher.heard(PID + 1, 106.0)
    assert "waiting for it" in watcher.silent("no answer", 109.0)
