"""The log file of a service: bounded by size, age and number, for its owner alone, as text or as JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from loguru import logger

from supervisor.cli import logs
from supervisor.config.loader import load
from supervisor.config.models import ConfigurationError, LogSettings


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    logs.set_up("WARNING")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log" / "supervisor.log"


def settings(**given: object) -> LogSettings:
    return LogSettings.model_validate(given)


def all_of(path: Path) -> list[Path]:
    return sorted(path.parent.iterdir())


def test_it_is_put_aside_when_it_is_long_and_the_oldest_go(path: Path) -> None:
    logs.to_file(path, settings(rotate_mb=0.01, keep=2), "INFO")
    for number in range(1000):
        logger.info("{} {}", number, "x" * 200)
    found = all_of(path)
    assert len(found) == 3
    assert all(one.stat().st_size <= 10_000 for one in found)
    assert " 999 " in path.read_text()


def test_a_new_period_begins_a_new_file_over_a_restart_too(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("of yesterday\n")
    yesterday = (datetime.now(UTC) - timedelta(days=1)).timestamp()
    os.utime(path, (yesterday, yesterday))
    logs.to_file(path, settings(), "INFO")
    logger.info("of today")
    logger.info("of today, too")
    assert [len(one.read_text().splitlines()) for one in all_of(path)] == [1, 2]
    assert "yesterday" not in path.read_text()


def test_it_is_for_its_owner_alone(path: Path) -> None:
    logs.to_file(path, settings(rotate_mb=0.01, keep=1), "INFO")
    for number in range(100):
        logger.info("{} {}", number, "x" * 200)
    assert {one.stat().st_mode & 0o777 for one in all_of(path)} == {0o600}


def test_json_is_a_document_a_line_with_what_was_raised(path: Path) -> None:
    logs.to_file(path, settings(format="json"), "INFO")
    logger.warning("fx/EUR_USD: {}", 'a "quoted" {brace}\nand a second line')
    secret = "a secret in a variable"  # noqa: F841 - it must not be shown
    try:
        raise ValueError("of ours")
    except ValueError:
        logger.exception("the cycle failed")
    first, second = (json.loads(line) for line in path.read_text().splitlines())
    assert first["level"] == "WARNING"
    assert first["message"] == 'fx/EUR_USD: a "quoted" {brace}\nand a second line'
    assert datetime.fromisoformat(first["time"]).tzinfo is not None
    assert "ValueError: of ours" in second["exception"]
    assert "a secret in a variable'" not in path.read_text()


def test_what_others_write_to_standard_error_lands_in_it_over_a_change_of_files(path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from loguru import logger\n"
        "from supervisor.cli import logs; from supervisor.config.models import LogSettings\n"
        "logs.to_file(Path(sys.argv[1]), LogSettings(rotate_mb=0.01), 'INFO', with_standard_error=True)\n"
        "logger.info('a' * 9000); logger.info('b' * 9000)\n"
        "os.write(2, b'from the interpreter itself\\n')\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert path.read_text().splitlines()[-1] == "from the interpreter itself"
    assert [one.read_text().count("INFO") for one in all_of(path)] == [1, 1]


def test_standard_error_is_json_too_where_no_terminal_reads_it(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up("INFO", settings=settings(format="json"))
    logger.info("up")
    assert json.loads(capsys.readouterr().err)["message"] == "up"


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str], Path]:
    def write(log: str) -> Path:
        file = tmp_path / "accounts.yaml"
        file.write_text(f"log: {log}\naccounts: [{{name: a, broker: paper, instruments: [EURUSD]}}]\n")
        return file

    return write


def test_its_path_is_of_the_configurations_folder(written: Callable[[str], Path], tmp_path: Path) -> None:
    found = load(written("{file: var/s.log, format: json, rotate_mb: 2.5, rotate_h: 1, keep: 3}")).log
    assert found == LogSettings(file=str(tmp_path / "var/s.log"), format="json", rotate_mb=2.5, rotate_h=1, keep=3)
    assert load(written("{}")).log == LogSettings()


@pytest.mark.parametrize(
    ("log", "key"),
    [
        ("{file: var/}", "log.file"),
        ("{format: xml}", "log.format"),
        ("{rotate_mb: 0}", "log.rotate_mb"),
        ("{rotate_h: 0.5}", "log.rotate_h"),
        ("{keep: -1}", "log.keep"),
        ("{kep: 1}", "log.kep"),
    ],
)
def test_a_mistake_names_its_key(log: str, key: str, written: Callable[[str], Path]) -> None:
    with pytest.raises(ConfigurationError) as raised:
        load(written(log))
    assert [problem.key for problem in raised.value.problems] == [key]
