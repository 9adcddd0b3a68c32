"""``console``: serves the page for operators until a signal, and adds the people who may sign in to it."""

from __future__ import annotations

import importlib
import signal
from collections.abc import Callable
from types import FrameType

from supervisor.cli.console import Failure, say
from supervisor.config.models import Configuration
from supervisor.presentation.json_contract import EXIT_OK


def page(configuration: Configuration, port: int | None) -> int:
    """Serve it until SIGINT, SIGTERM or SIGHUP. Raises :class:`Failure` where the port is not available."""
    check_installed()
    from supervisor.console.serve import serve
    from supervisor.console.users import TokensUnusable, Users

    try:
        Users(configuration.console_tokens).all()
    except TokensUnusable as error:
        say(f"warning: {error}")  # people may be added while it runs
    serve(configuration, port, lambda address: print(address, flush=True), end_by_signal)
    return EXIT_OK


def end_by_signal(stop: Callable[[], None]) -> None:
    """Have a signal stop the page in order from now on. Call it in the main thread."""

    def asked(number: int, frame: FrameType | None) -> None:
        del number, frame
        stop()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, asked)


def check_installed() -> None:
    """Raise :class:`Failure` where the page's libraries are not installed."""
    try:
        for name in ("jinja2", "starlette", "uvicorn"):
            importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise Failure(f"the page needs the extra console: pip install -e '.[console]' ({error})") from None


def add_user(configuration: Configuration, name: str | None, role: str | None) -> int:
    """Add a person, or give them a new token and role, and print the token: it is stored nowhere."""
    check_installed()
    from supervisor.console.users import Role, TokensUnusable, add

    if name is None or role is None or role.upper() not in Role.__members__:
        raise Failure("give both: --add NAME --role viewer|operator|approver")
    try:
        token = add(configuration.console_tokens, name, Role[role.upper()])
    except (TokensUnusable, ValueError) as error:
        raise Failure(str(error)) from None
    say(f"{name} may sign in as {role.lower()} with this token, which is shown only once:")
    print(token)
    return EXIT_OK
