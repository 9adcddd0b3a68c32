"""Where the signing key may be: in the system's keyring, and in a token that it never leaves (SoftHSM)."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keyring
import pytest
from keyring.backend import KeyringBackend
from typer.testing import CliRunner

from actors.journal.signed_head import parse_head
from actors.journal.signing_keys import load_or_make, read_public
from actors.journal.types import JournalUnavailable
from supervisor.cli.main import app
from supervisor.config.errors import ConfigurationError
from supervisor.config.loader import load, load_place
from tests.unit.journal_cases import ROOT
from tests.unit.test_journal_evidence import notes, run_audit

PLACES = ("/usr/lib/softhsm", "/usr/lib64/softhsm", "/opt/homebrew/lib/softhsm")
MODULE = next((f"{one}/libsofthsm2.so" for one in PLACES if os.path.exists(f"{one}/libsofthsm2.so")), "")


class Memory(KeyringBackend):
    """A keyring of this process."""

    priority = 1

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # the library says no types there
        self.held: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.held.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.held[service, username] = password


@pytest.fixture
def memory() -> Iterator[Memory]:
    before, made = keyring.get_keyring(), Memory()
    keyring.set_keyring(made)
    yield made
    keyring.set_keyring(before)


class TestKeyring:
    def test_a_key_is_made_in_the_keyring_and_signs_on_from_there(self, tmp_path: Path, memory: Memory) -> None:
        first = load_or_make("keyring:journal/heads", tmp_path / "pub", None)
        again = load_or_make("keyring:journal/heads", tmp_path / "pub", first.public.name)
        assert first.public == again.public
        assert read_public(tmp_path / "pub") == [first.public]
        assert list(memory.held) == [("journal", "heads")]
        assert "PRIVATE KEY" in memory.held["journal", "heads"]
        assert sorted(one.name for one in tmp_path.iterdir()) == ["pub"]

    def test_a_key_that_is_gone_from_the_keyring_is_not_replaced(self, tmp_path: Path, memory: Memory) -> None:
        load_or_make("keyring:journal/heads", tmp_path / "pub", None)
        memory.held.clear()
        with pytest.raises(JournalUnavailable, match="is gone"):
            load_or_make("keyring:journal/heads", tmp_path / "pub", None)

    @pytest.mark.parametrize("where", ["keyring:", "keyring:journal", "keyring:/heads"])
    def test_what_names_no_entry_is_said(self, tmp_path: Path, memory: Memory, where: str) -> None:
        with pytest.raises(JournalUnavailable, match="SERVICE/NAME"):
            load_or_make(where, tmp_path / "pub", None)

    def test_a_keyring_that_is_locked_is_named_and_holds_no_append_up(self, tmp_path: Path, memory: Memory) -> None:
        def locked(service: str, username: str) -> str | None:
            raise keyring.errors.KeyringLocked("nobody unlocks it")

        memory.get_password = locked  # type: ignore[method-assign]  # a backend that is locked
        with pytest.raises(JournalUnavailable, match="nobody unlocks it"):
            load_or_make("keyring:journal/heads", tmp_path / "pub", None)


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URI of a key in a token of this test's own."""
    pytest.importorskip("pkcs11")
    if not MODULE or shutil.which("softhsm2-util") is None:
        pytest.skip("SoftHSM is not installed")
    (tmp_path / "tokens").mkdir()
    (tmp_path / "softhsm2.conf").write_text(f"directories.tokendir = {tmp_path}/tokens\nlog.level = ERROR\n")
    monkeypatch.setenv("SOFTHSM2_CONF", str(tmp_path / "softhsm2.conf"))
    monkeypatch.setenv("TOKEN_PIN", "5678")
    words = ["softhsm2-util", "--init-token", "--free", "--label", "desk", "--so-pin", "1234", "--pin", "5678"]
    subprocess.run(words, check=True, capture_output=True)
    return f"pkcs11:token=desk;object=heads?module-path={MODULE}&pin-value=${{TOKEN_PIN}}"


IN_A_PROCESS = """
import json, sys
from pathlib import Path
from actors.journal.signing_keys import load_or_make, new_key, read_public, write_private, write_public
from actors.journal.types import JournalUnavailable
where, public = sys.argv[1], Path(sys.argv[2])
try:
    first = load_or_make(where, public, None)
    line = first.signature_line("text\\n")
    again = load_or_make(where, public, first.public.name)
    following, key = new_key(first.public.name, where)
    write_public(public, [first.public, following.public])
    write_private(where, key)
    after = load_or_make(where, public, first.public.name)
    import base64
    good = after.public.verifies("text\\n", base64.b64decode(after.signature_line("text\\n").split(" ")[2])[4:])
    print(json.dumps([str(first.public) == str(again.public), str(after.public) == str(following.public), good]))
except JournalUnavailable as error:
    print(json.dumps(str(error)))
"""


def in_a_process(*arguments: object, **environment: str) -> Any:
    """A library reads its token's place once in a process, so each test has one of its own."""
    found = subprocess.run(
        [sys.executable, "-c", IN_A_PROCESS, *map(str, arguments)],
        env={**os.environ, **environment}, cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(found.stdout)


class TestToken:
    def test_a_key_is_made_in_the_token_signs_there_and_hands_on(self, token: str, tmp_path: Path) -> None:
        assert in_a_process(token, tmp_path / "pub") == [True, True, True]
        assert not any("PRIVATE" in file.read_text(errors="replace") for file in tmp_path.glob("*") if file.is_file())

    def test_a_wrong_pin_a_missing_one_and_a_missing_token_are_named(self, token: str, tmp_path: Path) -> None:
        wrong = in_a_process(token, tmp_path / "pub", TOKEN_PIN="0000")
        assert "the token desk" in wrong
        assert "0000" not in wrong
        assert "${TOKEN_PIN}, its PIN, is not set" in in_a_process(token, tmp_path / "pub", TOKEN_PIN="")
        assert "the token other" in in_a_process(token.replace("desk", "other"), tmp_path / "pub")
        elsewhere = token.replace(MODULE, "/no/such.so")
        assert "/no/such.so" in in_a_process(elsewhere, tmp_path / "pub")

    def test_heads_are_signed_by_the_token_and_checked_without_it(self, token: str, tmp_path: Path) -> None:
        code = "import sys; from tests.unit.test_signing_places import live; live(sys.argv)"
        words = [sys.executable, "-c", code, str(tmp_path), token]
        subprocess.run(words, cwd=ROOT, check=True, capture_output=True)
        (note,) = notes(tmp_path)
        assert parse_head(note).size == 2
        journal = ["--journal", str(tmp_path / "journal.db")]
        found = CliRunner().invoke(app, ["audit", "verify", *journal, "--json"])
        assert json.loads(found.stdout)["signatures"]
        assert json.loads(found.stdout)["ok"]


def live(words: list[str]) -> None:
    """One life of an audit actor with that key."""
    asyncio.run(run_audit(Path(words[1]), "1", "2", key=words[2]))


class TestTheConfiguration:
    def test_a_token_may_be_named_and_its_pin_may_not_be_written_down(self, tmp_path: Path) -> None:
        file = tmp_path / "accounts.yaml"
        good = "pkcs11:token=desk;object=heads?module-path=/x.so&pin-value=${TOKEN_PIN}"
        for key, taken in (
            (good, True),
            (good.replace("pin-value=${TOKEN_PIN}", "pin-source=file:/run/pin"), True),
            (good.replace("${TOKEN_PIN}", "5678"), False),
            (good.replace("object=heads", ""), False),
            (good.partition("?")[0], False),
            (good + "&more=1", False),
        ):
            file.write_text(
                f"journal: {{url: 'sqlite:///j.db', key: '{key}'}}\n"
                "accounts: [{name: p, broker: paper, instruments: [X]}]\n"
            )
            if taken:
                assert load(file, {"TOKEN_PIN": "5678"}).signing_key == key
            else:
                with pytest.raises(ConfigurationError, match="pkcs11:token=NAME;object=LABEL"):
                    load(file, {"TOKEN_PIN": "5678"})

    def test_whoever_only_reads_needs_no_pin_and_whoever_signs_learns_of_it(self, tmp_path: Path) -> None:
        file = tmp_path / "accounts.yaml"
        file.write_text(
            "journal: {key: 'pkcs11:token=d;object=h?module-path=/x.so&pin-value=${NO_SUCH_PIN}'}\n"
            "accounts: [{name: p, broker: paper, instruments: [X]}]\n"
        )
        assert load_place(file).signing_key.startswith("pkcs11:token=d")
        with pytest.raises(ConfigurationError, match="NO_SUCH_PIN"):
            load(file, {})
