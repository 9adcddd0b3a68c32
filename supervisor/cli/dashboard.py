"""``dashboard``: the address of Ray's dashboard, how to sign in, and the folder of its logs."""

from __future__ import annotations

import os
import sys
import webbrowser
from pathlib import Path

from supervisor.cli.console import Failure, say
from supervisor.client import run_file
from supervisor.client.processes import find
from supervisor.config.models import Configuration
from supervisor.presentation.json_contract import EXIT_OK, EXIT_UNVERIFIED

TOKEN_FILE = "~/.ray/auth_token"  # noqa: S105 - where it is, and not what


def dashboard(configuration: Configuration, *, open_it: bool) -> int:
    """Print the address, the token or its place, and the folder of the logs."""
    find(configuration)
    run = run_file.read(configuration)
    if run is None or run.dashboard is None:
        raise Failure("this supervisor's cluster has no dashboard. Start it without --no-dashboard", EXIT_UNVERIFIED)
    print(run.dashboard)
    if run.logs is not None:
        print(f"logs: {run.logs}")
    token = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or TOKEN_FILE).expanduser()
    if run.auth_mode == "disabled":
        say("it needs no token")
    elif token.exists() and sys.stdout.isatty():
        print(f"it asks for a token; paste this: {token.read_text(encoding='utf-8').strip()}")
    else:
        say(f"it asks each browser once for a token: the contents of {token}")
    if open_it and not webbrowser.open(run.dashboard):
        say("no browser could be opened")
    return EXIT_OK
