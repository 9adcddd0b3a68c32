"""``apply``: make a configuration file what runs, and leave everything alone that does not differ."""

from __future__ import annotations

from pathlib import Path

from supervisor.changes import parsing
from supervisor.changes.asking import asked
from supervisor.changes.requests import ChangeRefused
from supervisor.changes.transaction import ChangeNotMade
from supervisor.cli.console import Failure, console, print_json
from supervisor.client.changes import WAIT_S, Changes
from supervisor.client.processes import Running, find
from supervisor.config.models import Configuration
from supervisor.errors import NotRunning
from supervisor.presentation.json_contract import EXIT_OK, EXIT_UNVERIFIED


def apply(configuration: Configuration, path: Path, *, force: bool, dry_run: bool, as_json: bool) -> int:
    """Compute, show and make the difference between what runs and a configuration, and wait for the actors concerned.
    The exit status: 0 every affected actor runs the new settings, or nothing differs; 2 refused; 3 some actors do not
    run them yet."""
    supervisor = _found(configuration)
    wanted = parsing.configuration_from(configuration, source=str(path))
    by = asked()
    try:
        result = supervisor.change(wanted, by, dry_run=True)
        if not as_json:
            _print(Changes(result, {}, forced=force))
        if result.rows and not dry_run:
            result = supervisor.change(wanted, by, force=force)
    except ChangeRefused as error:
        raise Failure(str(error)) from None
    except ChangeNotMade as error:
        raise Failure(str(error), EXIT_UNVERIFIED) from None
    names = result.effects.names if result.made else ()
    done = Changes(result, supervisor.settled(names, WAIT_S) if names else {})
    if as_json:
        print_json(done.to_dict())
    elif result.made:
        console().print("\n".join(["", *done.outcome()]), soft_wrap=True)
    return EXIT_UNVERIFIED if done.waiting else EXIT_OK


def _found(configuration: Configuration) -> Running:
    try:
        return find(configuration)
    except NotRunning as error:
        raise NotRunning(
            error.looked_for,
            f"{error.remedy}. It is the one of the journal {configuration.journal_name}: one that runs cannot be given "
            "another journal",
        ) from None


def _print(shown: Changes) -> None:
    console().print(str(shown), soft_wrap=True)
