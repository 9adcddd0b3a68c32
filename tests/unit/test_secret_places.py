"""Where a secret may be: a file of its own that nobody else reads, the system's keyring; and what is cautioned of."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner

from brokers.errors import Refused
from brokers.spec import SecretRef, SecretSource, reference
from supervisor.changes.applied_configuration import marks_of
from supervisor.changes.diff import difference
from supervisor.changes.shown_configuration import shown
from supervisor.cli.main import app
from supervisor.config.cautions import cautions
from supervisor.config.loader import load
from supervisor.config.models import Configuration

SECRET = "s3cr3t-0123456789"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One that anybody may look into, as most are."""
    tmp_path.chmod(0o755)
    return tmp_path


def kept(folder: Path, mode: int = 0o600, text: str = f"{SECRET}\n") -> Path:
    file = folder / "token"
    file.write_text(text)
    file.chmod(mode)
    return file


def loaded(folder: Path, token: str, extra: str = "") -> Configuration:
    file = folder / "accounts.yaml"
    account = f"{{name: fx, broker: oanda, account_id: 101-001-1-001, token: '{token}', instruments: [EUR_USD]}}"
    file.write_text(f"{extra}\naccounts: [{account}]\n")
    return load(file, {})


def token_of(configuration: Configuration) -> SecretRef:
    return configuration.account("fx").secrets()["token"]


def test_a_file_is_of_the_configurations_folder_and_read_when_it_is_used(folder: Path) -> None:
    ref = token_of(loaded(folder, "file:token"))
    with pytest.raises(Refused, match="No such file"):
        ref.resolve()
    kept(folder)
    assert ref.resolve() == SECRET
    kept(folder, text="another")
    assert ref.resolve() == "another"
    assert SECRET not in f"{ref!r}{ref}"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666, 0o620])
def test_a_file_that_others_may_open_is_refused_and_its_content_not_shown(folder: Path, mode: int) -> None:
    kept(folder, mode)
    with pytest.raises(Refused) as raised:
        token_of(loaded(folder, "file:token")).resolve()
    assert f"others may read {folder}/token (mode {mode:o})" in str(raised.value)
    assert "chmod 600" in str(raised.value)
    assert SECRET not in str(raised.value)


def test_a_folder_that_keeps_others_out_serves_as_well(folder: Path) -> None:
    """As systemd's credentials and a container's secrets are."""
    closed = folder / "credentials"
    closed.mkdir(mode=0o700)
    kept(closed, 0o644)
    assert token_of(loaded(folder, f"file:{closed}/token")).resolve() == SECRET


@pytest.mark.parametrize(
    ("content", "found"), [(b"", "it is empty"), (b"\xff\xfe", "is no text"), (b"a\nb", "control characters")]
)
def test_a_file_that_holds_no_secret_is_refused(folder: Path, content: bytes, found: str) -> None:
    kept(folder).write_bytes(content)
    with pytest.raises(Refused, match=found):
        token_of(loaded(folder, "file:token")).resolve()


@pytest.fixture
def keyring(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str], str]:
    entries: dict[tuple[str, str], str] = {}
    made, errors = ModuleType("keyring"), ModuleType("keyring.errors")
    made.get_password = lambda service, name: entries.get((service, name))  # type: ignore[attr-defined]
    errors.KeyringError = OSError  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "keyring", made)
    monkeypatch.setitem(sys.modules, "keyring.errors", errors)
    return entries


def test_the_keyring_is_asked_when_it_is_used(folder: Path, keyring: dict[tuple[str, str], str]) -> None:
    ref = token_of(loaded(folder, "keyring:reconciliation/fx"))
    with pytest.raises(Refused, match="keyring set reconciliation fx"):
        ref.resolve()
    keyring["reconciliation", "fx"] = SECRET
    assert ref.resolve() == SECRET


def test_without_the_extra_the_remedy_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(Refused, match="Install the extra keyring"):
        token_of(loaded(folder, "keyring:reconciliation/fx")).resolve()


@pytest.mark.parametrize("written", ["file:", "keyring:", "keyring:service", "keyring:/name", "a token", "${A}${B}"])
def test_nothing_else_is_a_reference(written: str) -> None:
    assert reference("fx", "token", written, "/etc") is None


def test_the_other_secrets_may_be_there_too(folder: Path) -> None:
    extra = (
        "journal: {url: 'file:pg'}\n"
        "alerts: {routes: [{name: desk, url: 'file:desk'}]}\n"
        "sinks: [{delta: 's3://b/p', storage_options: {AWS_SECRET_ACCESS_KEY: 'keyring:s3/key', AWS_REGION: eu}}]\n"
    )
    found = loaded(folder, "file:token", extra)
    assert found.journal.url == SecretRef(SecretSource.SECRET_FILE, "", "url", f"{folder}/pg")
    assert found.alerts.routes[0].url == SecretRef(SecretSource.SECRET_FILE, "alerts", "url", f"{folder}/desk")
    options = found.sinks[0].storage_options
    assert options["AWS_SECRET_ACCESS_KEY"] == SecretRef(
        SecretSource.KEYRING, "sinks", "AWS_SECRET_ACCESS_KEY", "s3/key"
    )
    assert options["AWS_REGION"] == "eu"


def test_apply_sees_that_the_file_holds_another_one_and_shows_neither(folder: Path) -> None:
    kept(folder)
    before = loaded(folder, "file:token")
    marks, _ = marks_of(before, "salt")
    same, _ = marks_of(before, "salt")
    assert not difference(before, before, marks, same)
    kept(folder, text="another-one-0123")
    after, _ = marks_of(before, "salt")
    found = difference(before, before, marks, after)
    assert [str(row) for row in found.rows] == ["account fx changed: token changed"]
    assert SECRET not in str(shown(before))


GATEWAY = (
    "accounts: [{{name: cfd, broker: mt5, endpoint: '{}', instruments: [EURUSD]{}}}, "
    "{{name: rehearsal, broker: paper, instruments: [EURUSD]}}]\n"
)


@pytest.mark.parametrize(
    ("endpoint", "extra", "words"),
    [
        ("tcp://127.0.0.1:5555", "", None),
        ("tcp://localhost:5555", "", None),
        ("ipc:///run/gateway", "", None),
        ("tcp://10.0.0.7:5555", "", "Set curve_key and curve_server_key"),
        ("tcp://10.0.0.7:5555", ", insecure: true", "insecure is true"),
        ("tcp://10.0.0.7:5555", ", curve_key: /a, curve_server_key: /b", None),
        ("tcp://10.0.0.7:5555", ", curve_key: /a", "without encryption"),
        ("tcp://127.0.0.1:5555", ", events_endpoint: 'tcp://gateway:5556'", "tcp://gateway:5556"),
        ("tcp://10.0.0.7:5555", ", enabled: false", None),
    ],
)
def test_a_gateway_that_is_spoken_to_in_the_clear_is_cautioned_of(
    folder: Path, endpoint: str, extra: str, words: str | None
) -> None:
    file = folder / "accounts.yaml"
    file.write_text(GATEWAY.format(endpoint, extra))
    found = cautions(load(file, {}))
    assert len(found) == (words is not None)
    assert words is None or words in found[0]


@pytest.mark.parametrize(
    ("url", "cautioned"),
    [
        ("postgresql://me:pw@db.example.org/j", True),
        ("postgresql://me:pw@db.example.org/j?sslmode=require", True),
        ("postgresql://me:pw@db.example.org/j?sslmode=verify-full", False),
        ("postgresql://me:pw@localhost/j", False),
        ("postgresql://me:pw@localhost:1,db.example.org:2/j", True),
        ("postgresql://me:pw@/j?host=localhost:1&host=db.example.org:2", True),
        ("postgresql://me:pw@localhost:1,[::1]:2/j", False),
        ("postgresql:///j?host=/run/postgresql", False),
        ("not an url", False),
    ],
)
def test_a_journals_server_whose_certificate_is_not_verified_is_cautioned_of(
    folder: Path, url: str, cautioned: bool
) -> None:
    kept(folder, text=url)
    found = cautions(loaded(folder, "keyring:a/b", "journal: {url: 'file:token'}"))
    assert len(found) == cautioned
    assert not any("pw@" in one for one in found)


def test_a_secret_in_a_file_that_others_read_is_cautioned_of_by_check_and_not_shown(folder: Path) -> None:
    configuration = loaded(folder, SECRET)
    file = folder / "accounts.yaml"
    file.chmod(0o644)
    said = CliRunner().invoke(app, ["check", str(file)])
    assert f"caution: fx: its token stands in {file}, which others can read" in said.stdout
    assert SECRET not in said.output
    file.chmod(0o600)
    assert cautions(configuration) == ()
