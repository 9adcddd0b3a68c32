"""What a command does when its output cannot be written: nobody reads it any more, its disk is full, it was closed."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

from actors.journal.store import Journal
from supervisor.changes.asking import Via, came_by
from supervisor.cli import main

NOBODY_READS, NO_SPACE = 141, 3


@pytest.fixture
def configuration(tmp_path: Path) -> Path:
    path = tmp_path / "accounts.yaml"
    journal = f"sqlite:///{tmp_path}/journal.db"
    path.write_text(f"journal: {{url: '{journal}'}}\naccounts: [{{name: p, broker: paper, instruments: [EURUSD]}}]\n")
    Journal.open(journal).close()
    return path


@pytest.fixture
def pipe_without_reader() -> Iterator[TextIO]:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as pipe:
        yield pipe


@pytest.fixture
def full_disk() -> Iterator[TextIO]:
    with open("/dev/full", "w") as full:
        yield full


def _ended(monkeypatch: pytest.MonkeyPatch, stdout: TextIO | None, *arguments: object) -> object:
    monkeypatch.setattr(sys, "argv", ["supervisor", *map(str, arguments)])
    monkeypatch.setattr(sys, "stdout", stdout)
    try:
        with pytest.raises(SystemExit) as ended:
            main.main()
    finally:
        came_by(Via.HANDLE)  # what this process asks for later is not asked by the command line
    return ended.value.code


COMMANDS = pytest.mark.parametrize(
    "command",
    [["--version"], ["--help"], ["audit", "-h"], ["check"], ["audit", "query", "--json"], ["audit", "query", "--csv"]],
    ids=" ".join,
)


@COMMANDS
def test_a_command_whose_reader_has_gone_ends_as_other_tools_do(
    command: list[str],
    configuration: Path,
    pipe_without_reader: TextIO,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Quietly, and never with 1: that would say that a break is open."""
    given = [] if command[-1] in ("--version", "--help", "-h") else ["-c", configuration]
    assert _ended(monkeypatch, pipe_without_reader, *command, *given) == NOBODY_READS
    assert capsys.readouterr().err == ""


@COMMANDS
def test_a_command_whose_output_finds_no_space_says_so_in_a_line(
    command: list[str],
    configuration: Path,
    full_disk: TextIO,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [] if command[-1] in ("--version", "--help", "-h") else ["-c", configuration]
    assert _ended(monkeypatch, full_disk, *command, *given) == NO_SPACE
    said = capsys.readouterr().err
    assert said.startswith("error: could not write the output: No space left on device.")
    assert said.count("\n") == 1


def test_a_command_whose_output_was_closed_does_its_work(
    configuration: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _ended(monkeypatch, None, "check", configuration) == 0
    assert capsys.readouterr().err == ""
