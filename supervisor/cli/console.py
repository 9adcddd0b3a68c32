"""What all commands share: where their output goes, and the exit status of whatever stops them.

Results go to standard output; errors are one clear message on standard error, never a traceback, and never a secret.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import stat
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brokers.kit.whole_file import write_whole
from supervisor.presentation.json_contract import EXIT_UNVERIFIED, EXIT_USAGE

if TYPE_CHECKING:
    from rich.console import Console

    from supervisor.config.models import Configuration

DEFAULT_CONFIG = Path("config/accounts.yaml")
EXIT_UNEXPECTED = 70
"""An error of this program: EX_SOFTWARE in sysexits.h."""
EXIT_INTERRUPTED = 130
EXIT_PIPE_CLOSED = 141
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
_UNBOUNDED_WIDTH = 200
_URL_CREDENTIALS = re.compile(r"//[^/@\s]*@")


class Failure(Exception):
    """A command cannot go on: the message for its user, and the exit status."""

    def __init__(self, message: str, status: int = EXIT_USAGE) -> None:
        super().__init__(message, status)
        self.message = message
        self.status = status

    def __str__(self) -> str:
        return self.message


def console(*, stderr: bool = False) -> Console:
    """The console for tables and text. In a file or a pipe, lines are long enough not to be wrapped."""
    from rich.console import Console

    class Ours(Console):
        def on_broken_pipe(self) -> None:
            """Rich would exit with status 1, which means that a break is open."""
            raise BrokenPipeError from None

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or os.environ.get("COLUMNS") else _UNBOUNDED_WIDTH
    return Ours(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)


def print_json(document: Any) -> None:
    """One JSON document on standard output, in plain ASCII."""
    sys.stdout.write(json.dumps(document, indent=2) + "\n")
    sys.stdout.flush()


def say(message: str) -> None:
    """Print a line on standard error; lost where the terminal is gone."""
    with contextlib.suppress(OSError):
        sys.stderr.write(f"{message}\n")
        sys.stderr.flush()


def load(path: Path | None) -> Configuration:
    """The configuration at a path, ``config/accounts.yaml`` for ``None``. Raises ``ConfigurationError``, and
    :class:`Failure` where no path was given and the default does not exist."""
    from supervisor.config.loader import load as load_file

    if path is None and not DEFAULT_CONFIG.exists():
        raise Failure(f"there is no {DEFAULT_CONFIG} in this directory: give a configuration")
    return load_file(path or DEFAULT_CONFIG)


def load_place(path: Path | None, also: Collection[str] = ()) -> Configuration:
    """As :func:`load`, for a command that only calls the running supervisor: the place of the journal and the cluster,
    and nothing of the accounts, so that none of their secrets need be set in this terminal. ``also`` names further
    sections to read."""
    from supervisor.config.loader import load_place as load_place_of

    if path is None and not DEFAULT_CONFIG.exists():
        raise Failure(f"there is no {DEFAULT_CONFIG} in this directory: give a configuration")
    return load_place_of(path or DEFAULT_CONFIG, also)


def refuse_second_journal(configuration: Configuration, path: Path | None) -> None:
    """Raise :class:`Failure` where a new journal would be created although one exists in the working directory, where
    earlier versions looked for a relative ``journal.url``: its halts and history would silently be lost."""
    found = second_journal(configuration, path)
    if found is not None:
        raise Failure(found)


def second_journal(configuration: Configuration, path: Path | None) -> str | None:
    """Which journal that is, and what to do; ``None`` where there is none."""
    file = configuration.state_dir / configuration.journal_file
    folder = (path or DEFAULT_CONFIG).absolute().parent
    if not isinstance(configuration.journal.url, str) or file.exists() or not file.is_relative_to(folder):
        return None
    former = Path.cwd() / file.relative_to(folder)
    if former == file or not former.exists():
        return None
    return (
        f"there is no journal {file}, but there is one at {former}: relative paths start at the folder of "
        f"the configuration, and used to start at the working directory. Move it there with the files beside it "
        f"({former.name}.*), or set journal.url: sqlite:///{former}"
    )


def check_names(configuration: Configuration, account: str | None, instrument: str | None) -> None:
    """Raise :class:`Failure`, with the known names, for an account or an instrument that is not configured."""
    accounts = {one.name: one for one in configuration.accounts}
    if account is not None and account not in accounts:
        raise Failure(f"there is no account {account!r}. There are: {', '.join(accounts)}")
    if account is not None and not accounts[account].enabled:
        raise Failure(f"account {account} is disabled. Set enabled: true for it in the configuration")
    if instrument is None:
        return
    chosen = [accounts[account]] if account is not None else configuration.enabled_accounts
    if any(one.instruments is None or instrument in one.symbols for one in chosen):
        return
    known = ", ".join(f"{one.name}/{symbol}" for one in chosen for symbol in one.symbols)
    where = f"account {account} has" if account is not None else "there is"
    raise Failure(f"{where} no instrument {instrument!r}. There are: {known}")


def selected(configuration: Configuration, account: str | None, instrument: str | None) -> Sequence[str]:
    """The enabled accounts of a selection. An unconfigured instrument is searched in those that manage ``all``."""
    chosen = [one for one in configuration.enabled_accounts if account in (None, one.name)]
    if instrument is not None:
        named = [one for one in chosen if instrument in one.symbols]
        chosen = named or [one for one in chosen if one.instruments is None]
    return [one.name for one in chosen]


def explain(error: BaseException, *, verbose: bool) -> int:
    """Print what stopped a command, on standard error; returns the exit status."""
    from actors.journal.client import JournalAway
    from actors.journal.types import JournalError
    from actors.runtime.ports import CallError
    from brokers.errors import BrokerError
    from supervisor.client.processes import AlreadyRunning, NoNode, OpenCluster
    from supervisor.config.errors import ConfigurationError
    from supervisor.errors import HandleError, NotRunning

    match error:
        case Failure():
            say(f"error: {error}")
            return error.status
        case ConfigurationError():
            say(f"{error}\nerror: the configuration cannot be used, nothing was done")
            return EXIT_USAGE
        case AlreadyRunning() | NoNode() | OpenCluster():
            say(f"error: {error}")
            return EXIT_USAGE
        case NotRunning() | JournalError() | JournalAway() | CallError() | BrokerError():
            say(f"error: {error}")
            return EXIT_UNVERIFIED
        case HandleError():
            say(f"error: {error}")
            return EXIT_UNVERIFIED
        case OSError(filename=str(name)) if not isinstance(error, BrokenPipeError):
            say(f"error: {name}: {error.strerror}. See that this user may use it, or run this as its owner")
            return EXIT_UNVERIFIED
        case KeyboardInterrupt():
            say("interrupted")
            return EXIT_INTERRUPTED
        case BrokenPipeError():
            _write_no_more()  # the reader of our output has gone: there is nobody to report it to
            return EXIT_PIPE_CLOSED
        case OSError(errno=int(number)) if number in _FULL:
            _write_no_more()
            say(f"error: could not write the output: {error.strerror}. Make room where it goes, and run this again")
            return EXIT_UNVERIFIED
        case _:
            return _unexpected(error, verbose=verbose)


def _write_no_more() -> None:
    """Keep Python's final flush from failing a second time."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _unexpected(error: BaseException, *, verbose: bool) -> int:
    if verbose:
        import traceback

        say(without_credentials("".join(traceback.format_exception(error)).rstrip()))
        return EXIT_UNEXPECTED
    found = without_credentials(f"{type(error).__name__}: {error}".strip().splitlines()[0])
    say(f"error: internal error: {found}. Run it again with: python -m supervisor --verbose …")
    return EXIT_UNEXPECTED


def without_credentials(text: str) -> str:
    """The text without credentials before the host in a URL."""
    return _URL_CREDENTIALS.sub("//…@", text)


def write_out(file: Path, text: str) -> None:
    """Write a document to a file, as a whole or not at all, readable by its owner alone unless it replaces a file that
    others may read. A pipe or a terminal receives it directly. Raises ``OSError``."""
    place = file.resolve()
    if place.exists() and not place.is_file():
        place.write_text(text, encoding="utf-8")
        return
    mode = stat.S_IMODE(place.stat().st_mode) if place.exists() else 0o600
    write_whole(place, text.encode(), mode=mode)


def journal_cautions(configuration: Configuration, *, asked: bool = True) -> list[str]:
    """What the server of a journal in PostgreSQL does not promise, and with ``asked`` that it does not answer."""
    if isinstance(configuration.journal.url, str):
        return []
    from actors.journal.postgresql_servers import cautions_of_server
    from actors.journal.types import JournalError
    from brokers.errors import Refused

    try:
        return [f"the journal: {one}" for one in cautions_of_server(configuration.journal_url)]
    except (JournalError, Refused) as error:
        return [str(error)] if asked else []
