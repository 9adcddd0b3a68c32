"""Files that are there whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from brokers.kit.whole_file import append_durably, new_file, write_whole
from supervisor.cli.console import write_out


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


def test_a_disk_that_takes_a_part_gets_the_rest_and_one_that_is_full_keeps_none_of_it(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, room = os.write, 7

    def in_part(descriptor: int, data: bytes) -> int:
        nonlocal room
        if not room:
            raise OSError(errno.ENOSPC, "no space left")
        written = write(descriptor, data[: min(3, room)])
        room -= written
        return written

    monkeypatch.setattr(os, "write", in_part)
    append_durably(file, "12345\n")
    assert file.read_text() == "12345\n"
    with pytest.raises(OSError, match="no space left"):
        append_durably(file, "678\n")
    assert file.read_text() == "12345\n"


def test_what_is_no_regular_file_is_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="no regular file"):
        write_whole(pipe, b"ours")
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert names(pipe) == ["pipe"]


def test_a_document_is_whole_private_where_it_is_new_and_goes_through_a_link_or_a_pipe(tmp_path: Path) -> None:
    new, old, link, pipe = (tmp_path / name for name in ("new", "old", "link", "pipe"))
    old.write_text("before")
    old.chmod(0o644)
    link.symlink_to(old)
    os.mkfifo(pipe)
    write_out(new, "é")
    write_out(link, "after")
    assert (new.read_bytes(), stat.S_IMODE(new.stat().st_mode)) == ("é".encode(), 0o600)
    assert (old.read_text(), stat.S_IMODE(old.stat().st_mode), link.is_symlink()) == ("after", 0o644, True)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_out(pipe, "through")
    assert os.read(reader, 100) == b"through"
    os.close(reader)
    assert sorted(names(new)) == ["link", "new", "old", "pipe"]


def test_a_document_that_cannot_be_written_whole_leaves_what_was_there(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    file.write_text("before")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_out(file, "after")
    assert (file.read_text(), names(file)) == ("before", ["state"])
