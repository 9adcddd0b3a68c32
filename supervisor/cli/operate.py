"""``status``, ``pause``, ``halt``, ``resume``, ``restart`` and ``stop``: commands to a running supervisor."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from actors.book.trading_permission import Halted, scope_words
from actors.names import account_of, symbol_of
from actors.runtime.cluster_probe import lives
from actors.runtime.ports import CallError
from brokers.model import Completeness
from supervisor.cli.console import Failure, console, print_json, say
from supervisor.cli.keyboard import Keyboard
from supervisor.cli.session import sweep
from supervisor.client import run_file
from supervisor.client.processes import Running, end, find
from supervisor.client.supervisor_client import STOP_TIMEOUT_S
from supervisor.config.models import Configuration
from supervisor.presentation.json_contract import EXIT_BREAK_OPEN, EXIT_OK, EXIT_UNVERIFIED
from supervisor.supervision.halts import not_durable

REFRESH_S = 1.0
WATCH_TIMEOUT_S = 3.0
FEW = 5
_UNVERIFIED = frozenset({"DEGRADED", "FAILED"})


def status(configuration: Configuration, *, as_json: bool, watch: bool) -> int:
    """Print the supervisor's last report on everything; the exit status is that of ``reconcile``."""
    if as_json and watch:
        raise Failure("--json prints one document and --watch never ends: use one of them")
    supervisor = find(configuration)
    if watch:
        return _watch(supervisor)
    document = supervisor.status()
    if as_json:
        print_json(document)
    else:
        _print(document)
    return exit_status(document)


def exit_status(document: Mapping[str, Any]) -> int:
    """The same as that of ``reconcile``, from the document: 3 something is unverified, 1 a break is open, 0 in step."""
    rows = [row for account in document["accounts"] for row in account["instruments"]]
    unanswered = any(account["error"] is not None for account in document["accounts"])
    # An instrument's error says what did not answer; a break alone has none.
    unknown = any(row["error"] is not None or Completeness.FAILED.value in row["broker"].values() for row in rows)
    if unanswered or unknown or document["status"] in _UNVERIFIED:
        return EXIT_UNVERIFIED
    return EXIT_OK if document["status"] == "SUCCESS" else EXIT_BREAK_OPEN


def _print(document: Mapping[str, Any]) -> None:
    from supervisor.cli.screen import actors_up, sink_words, table, totals

    out = console()
    out.print(table(document, width=out.width))
    out.print()
    amiss = [one for one in document["supervisor"]["actors"] if one["state"] != "UP"]
    for actor in amiss:
        out.print(
            f"{actor['name']} {actor['state']}{': ' + actor['reason'] if actor['reason'] else ''}", soft_wrap=True
        )
    for line in node_lines(document):
        out.print(line, soft_wrap=True)
    for line in version_lines(document):
        out.print(line, soft_wrap=True)
    for sink in document["supervisor"].get("sinks", ()):
        out.print(sink_words(sink), soft_wrap=True)
    for account in document["accounts"]:
        if account.get("summary"):
            out.print(f"{account['account']}: {account['summary']}", soft_wrap=True)
        if account["error"]:
            again = (account.get("health") or {}).get("retry_at")
            when = f" Asked again at {again[11:19]} UTC." if again else ""
            out.print(f"{account['account']} {account['connection']}: {account['error']}{when}", soft_wrap=True)
    for line in halt_lines(document):
        out.print(line, soft_wrap=True)
    out.print(
        f"{document['supervisor']['state']}, {'{} of {}'.format(*actors_up(document))} actors up, {totals(document)}"
    )
    out.print(_self_check_words(document["supervisor"]["self_check"]), soft_wrap=True)


def node_lines(document: Mapping[str, Any]) -> list[str]:
    """What runs on each node, one line a node; empty for a single machine of our own."""
    on: dict[str, list[str]] = {}
    for actor in document["supervisor"]["actors"]:
        if (node := actor.get("node")) is not None:
            labels = ", ".join(f"{label}={value}" for label, value in node["labels"].items())
            going = ", being drained" if node.get("draining") else ""
            on.setdefault(f"node {node['address'] or node['id']} ({labels or 'no labels'}{going})", []).append(
                actor["name"]
            )
    return [f"{node}: {_shortened(names)}" for node, names in sorted(on.items())]


def version_lines(document: Mapping[str, Any]) -> list[str]:
    """What runs each version where there are several, one line a version, and how far an upgrade is that is under way
    or has stopped."""
    supervisor = document["supervisor"]
    runs: dict[str, list[str]] = {}
    for name, program in [("supervisor", supervisor.get("program"))] + [
        (actor["name"], actor.get("program")) for actor in supervisor["actors"]
    ]:
        if program is not None:
            runs.setdefault(program, []).append(name)
    lines = [f"version {program}: {_shortened(names)}" for program, names in sorted(runs.items())]
    rolling = supervisor.get("rolling")
    if rolling is None or rolling["state"] == "DONE":
        return lines if len(lines) > 1 else []
    if rolling["state"] == "RUNNING":
        return [*lines, f"being upgraded to {rolling['to']}: {len(rolling['left'])} left"]
    at = f" at {rolling['failed']}" if rolling["failed"] else ""
    repeat = "" if len(lines) < 2 else " (repeat: apply --rolling)"
    return [*lines, f"the upgrade to {rolling['to']} stopped{at}: {rolling['reason']}{repeat}"]


def _shortened(names: Sequence[str]) -> str:
    """Infrastructure and accounts by name; of many instruments only their number."""
    instruments = [name for name in names if "/" in name]
    if len(instruments) <= FEW:
        return ", ".join(names)
    return ", ".join([*(name for name in names if "/" not in name), f"{len(instruments)} instruments"])


def halt_lines(document: Mapping[str, Any]) -> list[str]:
    """The halts in force, one line a halt, and where they are unknown."""
    halts = {
        f"{account['account']}/{row['instrument']}": row["health"]["halted"]
        for account in document["accounts"]
        for row in account["instruments"]
    }
    found = {one["scope"]: one for known in halts.values() for one in known or ()}
    lines = [
        f"trading halted: {scope}, since {one['since'][:19]}Z{': ' + one['reason'] if one['reason'] else ''}"
        for scope, one in found.items()
    ]
    unknown = [name for name, known in halts.items() if known is None]
    return lines + ([f"whether trading is halted is not known yet: {', '.join(unknown)}"] if unknown else [])


def _self_check_words(made: Mapping[str, Any]) -> str:
    """``12 books compared with the journal, none different, the last fx/EUR_USD at …``."""
    if not made["last_at"]:
        return "no book compared with the journal yet"
    checked, failed = made["checked"], made["failed"]
    words = f"{checked} book{'' if checked == 1 else 's'} compared with the journal, {failed or 'none'} different"
    last_failed = f" ({made['last_failed']} at {_to_the_second(made['last_failed_at'])})" if made["last_failed"] else ""
    return f"{words}{last_failed}, the last {made['last']} at {_to_the_second(made['last_at'])}"


def _to_the_second(time_text: str) -> str:
    return f"{time_text[:10]} {time_text[11:19]}Z"


def _watch(supervisor: Running) -> int:
    """Show it until Ctrl-C; while the supervisor does not answer, keep showing the last status with its age."""
    from rich.live import Live

    from supervisor.cli.screen import Screen, View

    out = console()
    if not out.is_terminal:
        raise Failure("--watch needs a terminal")
    screen = Screen(View("asking"))
    heard_at_s = time.monotonic()
    with (
        contextlib.suppress(KeyboardInterrupt),
        Keyboard() as keyboard,
        Live(screen, console=out, screen=True, auto_refresh=False) as live,
    ):
        while not screen.view.look.left:
            look = screen.view.look
            try:
                screen.view = View("", supervisor.status(timeout_s=WATCH_TIMEOUT_S), watching=True, look=look)
                heard_at_s = time.monotonic()
            except CallError as error:
                age = f"what is shown is {time.monotonic() - heard_at_s:.0f} s old"
                screen.view = replace(screen.view, trouble=f"{age}: the supervisor does not answer ({error.found})")
            live.refresh()
            until_s = time.monotonic() + REFRESH_S
            while (left_s := until_s - time.monotonic()) > 0 and not screen.view.look.left:
                if screen.press(keyboard.pressed(left_s)):
                    live.refresh()
    return EXIT_OK


def _supervisor_of(configuration: Configuration, account: str | None, instrument: str | None) -> Running:
    """The running supervisor, which alone knows what runs. Raises :class:`Failure`, with the known names, for an
    account or an instrument that it does not have."""
    supervisor = find(configuration)
    if account is None and instrument is None:
        return supervisor
    try:
        running = supervisor.directory()
    except CallError:
        return supervisor  # the next call to it fails with its own reason
    if account is not None and account not in running:
        raise Failure(f"there is no account {account!r}. There are: {', '.join(running)}")
    chosen = {name: row for name, row in running.items() if account in (None, name)}
    if instrument is None or any(row["all"] or instrument in row["instruments"] for row in chosen.values()):
        return supervisor
    known = ", ".join(f"{name}/{symbol}" for name, row in chosen.items() for symbol in row["instruments"])
    where = f"account {account} has" if account is not None else "there is"
    raise Failure(f"{where} no instrument {instrument!r}. There are: {known}")


def pause(configuration: Configuration, account: str | None, instrument: str | None, *, resume: bool) -> int:
    """Stop the scheduled cycles of the selected instruments, or start them again and end their halts."""
    supervisor = _supervisor_of(configuration, account, instrument)
    lifted = supervisor.resume_trading(account, instrument) if resume else None
    reached = supervisor.resume(account, instrument) if resume else supervisor.pause(account, instrument)
    shown = ", ".join(reached) if len(reached) <= FEW else f"{len(reached)} instruments"
    print(f"{'resumed' if resume else 'paused'}: {shown or 'none'}")
    meant = [
        name
        for name in _names(supervisor)
        if account in (None, account_of(name)) and instrument in (None, symbol_of(name))
    ]
    silent = [name for name in meant if name not in reached]
    if silent or not meant:
        raise Failure(f"did not answer: {', '.join(silent) or 'no such instrument is running'}", EXIT_UNVERIFIED)
    if lifted is None:
        return EXIT_OK
    exit_status = _trading("trading resumed", lifted)
    if lifted.failure is not None:
        raise Failure(f"not everything was resumed: {lifted.failure}. Resume again", EXIT_UNVERIFIED)
    return exit_status


def halt(configuration: Configuration, account: str | None, instrument: str | None, reason: str | None) -> int:
    """Stop trading in an instrument, an account or everything: ``trading_allowed`` is false there until `resume`,
    through every restart. Nothing is sent to a broker."""
    supervisor = _supervisor_of(configuration, account, instrument)
    try:
        result = supervisor.halt(account, instrument, reason)
    except CallError as error:
        raise Failure(f"whether trading is halted is not known: {error}. Halt again", EXIT_UNVERIFIED) from None
    status = _trading("trading halted", result)
    if result.failure is not None:
        raise Failure(not_durable(result.failure), EXIT_UNVERIFIED)
    return status


def _trading(did: str, result: Halted) -> int:
    """Print the result of a halt or of its end."""
    if result.scopes or not result.failure:
        scopes = ", ".join(map(scope_words, result.scopes))
        print(f"{did}: {scopes}" if scopes else "trading was not halted")
    for still in result.remaining:
        if still.scope not in result.scopes:
            print(f"in force: {still}")
    if result.silent:
        say(f"did not answer, and will receive it later: {', '.join(result.silent)}")
    return EXIT_UNVERIFIED if result.silent else EXIT_OK


def restart(configuration: Configuration, name: str) -> int:
    """Restart one actor, whatever its history; ends a quarantine."""
    supervisor = find(configuration)
    if not supervisor.restart(name):
        raise _no_actor(supervisor, name)
    print(f"restarting {name}")
    return EXIT_OK


def story(configuration: Configuration, name: str) -> int:
    """Print the history of one actor."""
    supervisor = find(configuration)
    found = supervisor.story(name)
    if found is None:
        raise _no_actor(supervisor, name)
    now = datetime.now(UTC)
    for ago_s, what in found:
        print(f"{now - timedelta(seconds=ago_s):%Y-%m-%d %H:%M:%S}Z {what}")
    return EXIT_OK


def _no_actor(supervisor: Running, name: str) -> Failure:
    known = [actor["name"] for actor in supervisor.status()["supervisor"]["actors"]]
    return Failure(f"there is no actor {name!r}. There are: {', '.join(known)}")


def stop(configuration: Configuration) -> int:
    """End every actor in order, then the supervisor; returns the exit status when everything has ended."""
    run = run_file.read(configuration)
    supervisor = find(configuration, by_cluster=run is None or run.detached)
    if run is None or run.detached:
        end(configuration, supervisor, lambda words: say(words))
        return _stopped()
    say("stopping, in order")
    with contextlib.suppress(CallError):
        # The process that started it ends it at the same moment, so the answer may not arrive.
        supervisor.stop()
    until_s = time.monotonic() + STOP_TIMEOUT_S
    while lives(run.pid):
        if time.monotonic() > until_s:
            raise Failure(f"process {run.pid}, which started it, has not ended yet", EXIT_UNVERIFIED)
        time.sleep(0.1)  # the end of another process has no event to wait for
    sweep(run.pid)
    return _stopped()


def _stopped() -> int:
    print("stopped")
    return EXIT_OK


def _names(supervisor: Running) -> Sequence[str]:
    return [
        f"{account['account']}/{row['instrument']}"
        for account in supervisor.status()["accounts"]
        for row in account["instruments"]
    ]
