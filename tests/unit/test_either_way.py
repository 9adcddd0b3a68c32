"""The configuration is named as an argument or by -c, whichever a command was written with; and where Ray's dashboard
is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_command
from typer.testing import CliRunner

from supervisor.cli.either_way import either_way
from supervisor.cli.main import app

COMMANDS: Any = get_command(app)


@pytest.mark.parametrize(
    ("name", "given", "taken"),
    [
        ("start", ["a.yaml"], ["a.yaml"]),
        ("start", ["-c", "a.yaml", "--detach"], ["a.yaml", "--detach"]),
        ("start", ["--config=a.yaml"], ["a.yaml"]),
        ("record", ["--account", "fx", "-c", "a.yaml", "lines"], ["a.yaml", "--account", "fx", "lines"]),
        ("status", ["a.yaml", "--json"], ["--config", "a.yaml", "--json"]),
        ("status", ["-c", "a.yaml"], ["-c", "a.yaml"]),
        ("halt", ["--reason", "a.yaml", "fx"], ["--reason", "a.yaml", "fx"]),
        ("halt", ["fx", "a.yml"], ["--config", "a.yml", "fx"]),
        ("pause", ["fx"], ["fx"]),
        ("simulate", ["oanda", "a.yaml"], ["oanda", "a.yaml"]),
    ],
)
def test_a_configuration_is_taken_either_way(name: str, given: list[str], taken: list[str]) -> None:
    assert either_way(COMMANDS.commands[name], given) == taken


@pytest.mark.parametrize(
    ("name", "given"),
    [("start", ["a.yaml", "-c", "b.yaml"]), ("status", ["a.yaml", "-c", "b.yaml"]), ("status", ["a.yaml", "b.yaml"])],
)
def test_one_that_is_named_twice_is_refused(name: str, given: list[str]) -> None:
    with pytest.raises(typer.BadParameter, match="given twice"):
        either_way(COMMANDS.commands[name], given)


@pytest.mark.parametrize(
    "given",
    [
        ["-c", "PATH", "check"],
        ["--verbose", "--config=PATH", "check"],
        ["-c", "PATH", "audit", "tail"],
        ["audit", "-c", "PATH", "tail"],
        ["breaks", "--config", "PATH", "list"],
    ],
    ids=" ".join,
)
def test_it_may_stand_before_the_command(tmp_path: Path, given: list[str]) -> None:
    path = str(tmp_path / "nowhere.yaml")
    result = CliRunner().invoke(app, [one.replace("PATH", path) for one in given])
    assert (result.exit_code, path in result.stderr) == (2, True)


def test_before_the_command_it_counts_as_named(tmp_path: Path) -> None:
    path = str(tmp_path / "nowhere.yaml")
    result = CliRunner().invoke(app, ["-c", path, "status", path])
    assert result.exit_code == 2
    assert "given twice" in result.stderr


def test_both_ways_do_the_same(tmp_path: Path) -> None:
    path = str(tmp_path / "nowhere.yaml")
    asked = [
        CliRunner().invoke(app, [*command, *way])
        for command in (("check",), ("status",), ("audit", "tail"), ("breaks", "list"))
        for way in ((path,), ("-c", path))
    ]

    assert {result.exit_code for result in asked} == {2}
    assert all(path in result.stderr for result in asked)


def test_the_dashboard_is_named_with_its_token_s_place_and_never_the_token_in_a_pipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from supervisor.cli import dashboard
    from supervisor.client import run_file
    from supervisor.client.run_file import RunFile
    from supervisor.config.loader import load

    path, token = tmp_path / "accounts.yaml", tmp_path / "token"
    path.write_text(
        f"journal: {{url: 'sqlite:///{tmp_path}/journal.db'}}\n"
        "accounts: [{name: desk, broker: paper, instruments: [EURUSD]}]\n"
    )
    token.write_text("the-token")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    monkeypatch.setattr(dashboard, "find", lambda _: None)
    run = RunFile("127.0.0.1:1", "token", "n", os.getpid(), False, None, None, "http://127.0.0.1:8265", "/tmp/ray/x")  # noqa: S108 - nothing is there
    run_file.write(load(path), run)

    result = CliRunner().invoke(app, ["dashboard", str(path)])

    assert result.stdout.splitlines() == ["http://127.0.0.1:8265", "logs: /tmp/ray/x"]
    assert str(token) in result.stderr
    assert "the-token" not in result.output
