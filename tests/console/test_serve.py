"""Where the page is served, who is let in by the command line, and what a configuration may say of it."""

from __future__ import annotations

import socket
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from supervisor.cli.console import Failure
from supervisor.cli.main import app
from supervisor.config.errors import ConfigurationError
from supervisor.config.loader import load, load_place
from supervisor.console.guard import Names
from supervisor.console.serve import address_of, listening
from supervisor.console.users import Users

ACCOUNTS = "accounts:\n  - {name: fx, broker: paper, instruments: [EURUSD]}\n"


def written(directory: Path, console: str) -> Path:
    file = directory / "accounts.yaml"
    file.write_text(f"journal: {{url: 'sqlite:///{directory}/journal.db'}}\nconsole: {console}\n{ACCOUNTS}")
    return file


def test_it_is_off_and_on_loopback_unless_said_otherwise(tmp_path: Path) -> None:
    settings = load(written(tmp_path, "{}")).console
    assert (settings.port, settings.host, settings.url) == (None, "127.0.0.1", None)
    found = load(written(tmp_path, "{port: 8321, tokens: in/tokens, url: 'https://Console.example/'}"))
    assert (found.console.port, found.console.url) == (8321, "https://console.example")
    assert Path(found.console_tokens) == tmp_path / "in" / "tokens"
    assert Path(load(written(tmp_path, "{}")).console_tokens) == tmp_path / "journal.db.tokens"


@pytest.mark.parametrize(
    ("console", "said"),
    [
        ("{port: 0}", "a port"),
        ("{port: 99999}", "a port"),
        ("{port: '8321x'}", "a port"),
        ("{host: 0.0.0.0, port: 8321}", "unencrypted"),
        ("{url: 'http://console.example'}", "https://"),
        ("{url: 'https://console.example/there'}", "https://"),
        ("{tokens: 'in/'}", "path of a file"),
        ("{tokens: 7}", "path of a file"),
        ("{prot: 8321}", "prot"),
        ("8321", "console"),
    ],
)
def test_a_mistake_in_it_is_named_with_its_line(tmp_path: Path, console: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(written(tmp_path, console))
    assert said in str(caught.value)
    assert "accounts.yaml:2" in str(caught.value)


def test_a_mistake_in_it_keeps_nobody_from_halting(tmp_path: Path) -> None:
    assert load_place(written(tmp_path, "{port: none}")).console.port is None


def test_a_port_that_is_taken_is_said_with_what_to_do(tmp_path: Path) -> None:
    configuration = load(written(tmp_path, "{}"))
    with listening(configuration, 0) as taken:
        port = taken.getsockname()[1]
        assert address_of(configuration, taken) == f"http://127.0.0.1:{port}/"
        assert taken.proto == socket.IPPROTO_TCP
        with pytest.raises(Failure, match=f"127.0.0.1:{port} cannot be used: .*Choose another --port"):
            listening(configuration, port)


def test_behind_a_proxy_it_answers_to_that_name_too_and_the_cookie_goes_by_tls_alone() -> None:
    names = Names.of(8321, "https://console.example")
    assert {"console.example", "127.0.0.1:8321", "[::1]:8321"} <= names.hosts
    assert "https://console.example" in names.origins
    assert "http://console.example" not in names.origins
    assert (names.secure, Names.of(8321, None).secure) == (True, False)


def test_the_command_line_lets_somebody_in_and_prints_their_token_once(tmp_path: Path) -> None:
    file = written(tmp_path, "{tokens: who}")
    done = CliRunner().invoke(app, ["console", "-c", str(file), "--add", "ann", "--role", "operator"])
    assert done.exit_code == 0, done.output
    kept = tmp_path / "who"
    token = done.stdout.splitlines()[-1]
    user = Users(str(kept)).by_token(token)
    assert user is not None
    assert (user.name, user.role.name) == ("ann", "OPERATOR")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    for wrong in (
        ["--add", "ann"],
        ["--role", "viewer"],
        ["--add", "a b", "--role", "viewer"],
        ["--add", "x", "--role", "root"],
    ):
        assert CliRunner().invoke(app, ["console", "-c", str(file), *wrong]).exit_code == 2
