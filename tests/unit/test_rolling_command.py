"""``apply --rolling`` and the handle's ``roll()``: what they print and return, and how long they wait."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from actors.runtime.ports import ActorUnavailable
from brokers.versions import PROGRAM, Program
from supervisor.changes.requests import ChangeRefused
from supervisor.cli.console import Failure
from supervisor.cli.operate import version_lines
from supervisor.cli.rolling import rolling
from supervisor.client.calls import run_blocking
from supervisor.client.changes import AsyncChanges, Upgrade
from supervisor.client.supervisor_client import ROLL_SILENT_S, SupervisorClient
from supervisor.config.loader import load
from supervisor.config.models import Configuration
from supervisor.errors import NotAnswered
from supervisor.supervision.rolling import RollBegun

TO = PROGRAM.version
BEGUN = RollBegun(TO, ("0.0.9",), ("fx/A", "fx", "audit"), supervisor=True)
NOTHING = RollBegun(TO, (), ())


def state(word: str, *left: str, failed: str | None = None, reason: str | None = None) -> dict[str, Any]:
    return {"to": TO, "state": word, "left": list(left), "failed": failed, "reason": reason}


class Port:
    """Answers as one supervisor and then the next would. An error is raised."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []
        self.now_s = 0.0

    async def call(self, actor: str, method: str, *args: object, timeout_s: float) -> Any:
        self.asked.append(method)
        self.now_s += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def monotonic_s(self) -> float:
        return self.now_s


class Handle(AsyncChanges):
    def __init__(self, port: Port) -> None:
        self._port = lambda: port


AWAY = ActorUnavailable("supervisor", "rolled", "its process has ended")


def test_it_waits_over_the_change_of_supervisors_until_the_end() -> None:
    port = Port(
        BEGUN, state("RUNNING", "fx/A", "fx", "audit"), AWAY, AWAY, None, state("RUNNING", "audit"), state("DONE")
    )
    result = run_blocking(Handle(port).roll())
    assert (result.done, result.left, result.to_dict()["from"]) == (True, (), ["0.0.9"])
    assert result.outcome() == f"done: everybody runs {TO}"
    assert [row["state"] for row in result.table().rows] == [f"runs {TO}"] * 3
    assert port.asked[0] == "roll"


def test_one_that_stopped_says_where_and_what_is_left() -> None:
    result = run_blocking(Handle(Port(BEGUN, state("STOPPED", "fx", "audit", failed="fx/A", reason="it hangs"))).roll())
    assert (result.done, result.left) == (False, ("fx", "audit"))
    assert result.outcome() == (
        "stopped at fx/A: it hangs; of another version, as before: fx, audit. "
        "When that is mended, repeat it: it goes on with the rest"
    )


def test_a_dry_run_and_one_with_nothing_to_do_wait_for_nothing() -> None:
    dry = run_blocking(Handle(Port(BEGUN)).roll(dry_run=True))
    assert (dry.done, dry.left, dry.words()) == (False, BEGUN.actors, f"0.0.9 → {TO}: the supervisor, fx/A, fx, audit")
    assert run_blocking(Handle(Port(NOTHING)).roll()).done


def test_a_wait_that_is_over_says_that_it_goes_on() -> None:
    result = run_blocking(Handle(Port(BEGUN, state("RUNNING", "fx"))).roll(wait_s=5))
    assert (result.done, result.outcome()) == (False, "it goes on; of another version: fx")


def test_a_supervisor_that_stays_away_is_an_error_and_not_an_end() -> None:
    port = Port(BEGUN, AWAY)
    with pytest.raises(NotAnswered, match="how far the upgrade is, is not known"):
        run_blocking(Handle(port).roll())
    assert port.now_s > ROLL_SILENT_S


@pytest.mark.parametrize("unknown", [AttributeError("roll"), ValueError("the supervisor has no method 'roll'")])
def test_a_supervisor_that_cannot_be_asked_is_to_be_stopped_and_started(unknown: Exception) -> None:
    with pytest.raises(ChangeRefused, match="Stop, and start with the new version"):
        run_blocking(SupervisorClient(lambda: Port(unknown)).roll(PROGRAM))


class Running:
    """A supervisor as the command finds it."""

    def __init__(self, begun: RollBegun | Exception, *states: Any, differs: bool = False) -> None:
        self.begun, self.states, self.differs = begun, states, differs

    def roll(self, program: Program, *, dry_run: bool) -> RollBegun:
        assert program == PROGRAM
        if isinstance(self.begun, Exception):
            raise self.begun
        return self.begun

    def roll_ended(self, to: str, see: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        for one in self.states:
            if isinstance(one, Exception):
                raise one
            see(one)
        last: dict[str, Any] = self.states[-1]
        return last

    def change(self, *_: object, dry_run: bool) -> Any:
        assert dry_run
        return SimpleNamespace(rows=(1,) if self.differs else ())


@pytest.fixture
def configuration(tmp_path: Path) -> Configuration:
    path = tmp_path / "accounts.yaml"
    path.write_text("accounts: [{name: fx, broker: oanda, simulator: true, instruments: [A]}]")
    return load(path)


def run(monkeypatch: pytest.MonkeyPatch, configuration: Configuration, running: Running, **how: bool) -> int:
    monkeypatch.setattr("supervisor.cli.rolling.find", lambda _: running)
    options = {"dry_run": False, "as_json": False} | how
    return rolling(configuration, Path("accounts.yaml"), **options)


def test_the_command_prints_each_that_has_come_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], configuration: Configuration
) -> None:
    states = (state("RUNNING", "fx", "audit"), state("RUNNING", "audit"), state("DONE"))
    assert run(monkeypatch, configuration, Running(BEGUN, *states, differs=True)) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [
        f"0.0.9 → {TO}: the supervisor, fx/A, fx, audit",
        *(f"{name} runs {TO}" for name in ("fx/A", "fx", "audit")),
        f"done: everybody runs {TO}",
    ]
    assert printed.err.strip().endswith(
        "accounts.yaml differs from what runs: python -m supervisor apply accounts.yaml"
    )


def test_the_command_ends_with_3_where_it_stopped_or_nobody_answers_and_with_2_where_it_was_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], configuration: Configuration
) -> None:
    stopped = state("STOPPED", "audit", failed="fx", reason="it hangs")
    assert run(monkeypatch, configuration, Running(BEGUN, stopped)) == 3
    out = capsys.readouterr().out.splitlines()
    assert out[1] == f"fx/A runs {TO}"
    assert out[2].startswith("stopped at fx: it hangs; of another version, as before: audit.")
    with pytest.raises(Failure, match="It goes on when the supervisor answers again") as failed:
        run(monkeypatch, configuration, Running(BEGUN, AWAY))
    assert failed.value.status == 3
    with pytest.raises(Failure, match="nothing was changed: run it: no") as failed:
        run(monkeypatch, configuration, Running(ChangeRefused("run it", "no", "Stop.")))
    assert failed.value.status == 2


def test_the_command_as_json_and_dry(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], configuration: Configuration
) -> None:
    assert run(monkeypatch, configuration, Running(BEGUN, state("DONE")), as_json=True) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["to"], said["done"], said["left"], said["supervisor"]) == (TO, True, [], True)
    assert run(monkeypatch, configuration, Running(BEGUN), dry_run=True) == 0
    assert capsys.readouterr().out == f"0.0.9 → {TO}: the supervisor, fx/A, fx, audit\n"
    assert run(monkeypatch, configuration, Running(NOTHING)) == 0
    assert capsys.readouterr().out == f"everybody runs {TO}\n"


def test_status_says_which_version_runs_what_while_there_are_two() -> None:
    def lines(rolling: dict[str, Any] | None, **programs: str | None) -> list[str]:
        actors = [{"name": name, "program": program} for name, program in programs.items()]
        return version_lines({"supervisor": {"program": "2", "rolling": rolling, "actors": actors}})

    assert lines(None, audit="2", fx="2") == []
    assert lines({**state("DONE"), "to": "2"}, audit="2", fx=None) == []
    assert lines({**state("RUNNING", "fx"), "to": "2"}, audit="2", fx="1") == [
        "version 1: fx",
        "version 2: supervisor, audit",
        "being upgraded to 2: 1 left",
    ]
    assert lines({**state("STOPPED", "fx", failed="fx/A", reason="it hangs"), "to": "2"}, audit="2", fx="1")[-1] == (
        "the upgrade to 2 stopped at fx/A: it hangs (repeat: apply --rolling)"
    )


def test_a_result_says_nothing_of_what_did_not_begin() -> None:
    assert Upgrade(NOTHING, None).to_dict() == {
        "to": TO,
        "from": [],
        "actors": [],
        "supervisor": False,
        "done": True,
        "left": [],
        "failed": None,
        "reason": None,
    }
