"""``apply --rolling``: what runs goes over to the version of the program that is installed now, actor by actor."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from actors.runtime.ports import CallError
from brokers.versions import PROGRAM
from supervisor.changes import parsing
from supervisor.changes.asking import asked
from supervisor.changes.requests import ChangeRefused
from supervisor.cli.console import Failure, print_json, say
from supervisor.client.changes import Upgrade
from supervisor.client.processes import Running, find
from supervisor.config.models import Configuration
from supervisor.presentation.json_contract import EXIT_OK, EXIT_UNVERIFIED


def rolling(configuration: Configuration, path: Path, *, dry_run: bool, as_json: bool) -> int:
    """Replace the supervisor and then the actors, one after another, and print each that has come up. The exit status:
    0 everybody runs this version; 2 refused; 3 it stopped on its way, or nobody answers any more."""
    supervisor = find(configuration)
    try:
        begun = supervisor.roll(PROGRAM, dry_run=dry_run)
    except ChangeRefused as error:
        raise Failure(str(error)) from None
    state: Mapping[str, Any] | None = None
    result = Upgrade(begun, None)
    if not as_json:
        print(result.words())
    if result.begun_at_all and not dry_run:
        progress = _Progress(begun.to, begun.actors, quiet=as_json)
        try:
            state = supervisor.roll_ended(begun.to, progress.see)
        except CallError as error:
            text = f"{error}. It goes on when the supervisor answers again; status shows how far it is"
            raise Failure(text, EXIT_UNVERIFIED) from None
        result = Upgrade(begun, state)
    if as_json:
        print_json(result.to_dict())
    elif state is not None:
        print(result.outcome())
        if result.done:
            _say_what_differs(supervisor, configuration, path)
    return EXIT_OK if result.done or dry_run else EXIT_UNVERIFIED


def _say_what_differs(supervisor: Running, configuration: Configuration, path: Path) -> None:
    """The configuration that was given is not applied, since that would restart all that it concerns at once."""
    wanted = parsing.configuration_from(configuration, source=str(path))
    try:
        differs = supervisor.change(wanted, asked(), dry_run=True).rows
    except (ChangeRefused, CallError):
        return
    if differs:
        say(f"{path} differs from what runs: python -m supervisor apply {path}")


class _Progress:
    def __init__(self, to: str, actors: tuple[str, ...], *, quiet: bool) -> None:
        self._to = to
        self._left = list(actors)
        self._quiet = quiet

    def see(self, state: Mapping[str, Any]) -> None:
        """Print who has come up since."""
        for name in [one for one in self._left if one not in state["left"] and one != state["failed"]]:
            self._left.remove(name)
            if not self._quiet:
                print(f"{name} runs {self._to}", flush=True)
