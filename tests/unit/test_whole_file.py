"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from brokers.kit.whole_file import append_durably, new_file, write_whole


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state"


def names(file: Path) -> list[str]:
    return [one.name for one in file.parent.iterdir()]


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_a_file_takes_its_place_with_the_mode_asked_for_whatever_the_mask(file: Path, mode: int) -> None:
    file.write_text("before")
    mask = os.umask(0o077)
    try:
        write_whole(file, b"after", mode=mode)
    finally:
        os.umask(mask)
    assert (file.read_bytes(), stat.S_IMODE(file.stat().st_mode), names(file)) == (b"after", mode, ["state"])


def test_a_failure_leaves_what_was_there_and_no_draft(file: Path) -> None:
    file.write_text("before")

    def fail_within() -> None:
        with new_file(file) as out:
            out.write(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_within()
    assert (file.read_text(), names(file)) == ("before", ["state"])


def test_the_draft_of_a_process_that_was_killed_is_in_nobodys_way(file: Path) -> None:
    with new_file(file) as out:
        (draft,) = names(file)
        out.write(b"whole")
    file.with_name(draft).write_text("what a killed one left")
    write_whole(file, b"again")
    assert (file.read_bytes(), names(file)) == (b"again", ["state"])


def test_a_draft_is_no_door_to_another_file(file: Path, tmp_path: Path) -> None:
    """Whoever may write in the directory cannot have us write through a link."""
    with new_file(file):
        (draft,) = names(file)
    precious = tmp_path / "precious"
    precious.write_text("precious")
    file.with_name(draft).symlink_to(precious)
    write_whole(file, b"ours")
    assert (file.read_bytes(), file.is_symlink(), precious.read_text()) == (b"ours", False, "precious")


def test_a_file_that_came_meanwhile_is_replaced_only_where_that_was_asked_for(file: Path) -> None:

    def meet_another() -> None:
        with new_file(file, replace=False) as out:
            out.write(b"ours")
            file.write_text("theirs")

    with pytest.raises(FileExistsError):
        meet_another()
    assert (file.read_text(), names(file)) == ("theirs", ["state"])
    with new_file(file, replace=True) as out:
        out.write(b"ours")
    assert file.read_text() == "ours"


def test_lines_are_added_to_what_is_there(file: Path) -> None:
    append_durably(file, "1\n", mode=0o644)
    append_durably(file, "2\n")
    assert file.read_text() == "1\n2\n"
