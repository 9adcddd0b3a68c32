"""The command line: ``python -m supervisor``.

Exit status: 0 every instrument in step, or done · 1 a break is open · 2 usage or configuration · 3 a broker, the
journal or the supervisor did not answer (3 before 1) · 70 an error of this program · 130 interrupted · 141 nobody
reads the output any more.

Each command imports what it needs when it runs, so that ``reconcile`` never waits for Ray.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from actors.names import split_name
from supervisor.cli.audit import audit
from supervisor.cli.breaks import breaks
from supervisor.cli.either_way import EitherWay

# Every usage error of typer's; it has no public name there.
_USAGE_ERROR: type[Exception] = typer.BadParameter.__bases__[0]


class _Commands(EitherWay):
    """Turns whatever stops a command into a message and an exit status."""

    def make_context(self, *args: Any, **more: Any) -> Any:
        """Read the options; ``--help`` and ``--version`` print here."""
        try:
            return super().make_context(*args, **more)
        except typer.Exit:
            # Flushed here, since Python's final flush would report an error too late.
            self._flushed()
            raise
        except OSError as error:
            self._ended(error)

    def _flushed(self) -> None:
        try:
            sys.stdout.flush()
        except OSError as error:
            self._ended(error)

    @staticmethod
    def _ended(error: OSError) -> NoReturn:
        from supervisor.cli.console import explain

        raise typer.Exit(explain(error, verbose=False)) from None

    def invoke(self, ctx: Any) -> Any:
        """Run the command. It returns its exit status."""
        try:
            status = super().invoke(ctx)
            sys.stdout.flush()  # an error of writing shows here, and not when Python ends
        except (typer.Exit, typer.Abort, _USAGE_ERROR):
            raise
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - no traceback reaches the user
            from supervisor.cli.console import explain

            status = explain(error, verbose=_verbose(ctx))
        raise typer.Exit(status if isinstance(status, int) else 0)


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Keeps what trading systems believe they hold in step with what their brokers say they hold.\n\n"
        "Exit status: 0 every instrument in step, or done; 1 a break is open; 2 usage or configuration; "
        "3 a broker, the journal or the supervisor did not answer; 70 an error of this program; 130 interrupted."
    ),
)
app.add_typer(audit, name="audit")
app.add_typer(breaks, name="breaks")

_DEFAULT = "config/accounts.yaml"
Config = Annotated[Path | None, typer.Argument(metavar="CONFIG", help=f"The configuration; default {_DEFAULT}.")]
ConfigOption = Annotated[Path | None, typer.Option("--config", "-c", help=f"The configuration; default {_DEFAULT}.")]
AccountOption = Annotated[str | None, typer.Option("--account", help="Only this account.")]
InstrumentOption = Annotated[str | None, typer.Option("--instrument", help="Only this instrument.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Name = Annotated[
    str | None, typer.Argument(metavar="ACCOUNT[/INSTRUMENT]", help="What to act on; everything if omitted.")
]


def _verbose(ctx: Any) -> bool:
    return bool(ctx.find_root().params.get("verbose"))


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(version("reconciliation-supervisor"))
        raise typer.Exit


@app.callback()
def _before(
    version: Annotated[  # noqa: ARG001 - its callback prints it
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Log everything, and show tracebacks.")] = False,
) -> None:
    from supervisor.cli import logs

    logs.set_up("WARNING", verbose=verbose)
    _leave_no_core()


def _leave_no_core() -> None:
    """A process that dies by a signal leaves its memory in a file, secrets among it; what is started from here inherits
    that it does not. To get one all the same, raise the limit again: ``prlimit --core``."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


@app.command()
def start(
    ctx: typer.Context,
    config: Config = None,
    detach: Annotated[bool, typer.Option("--detach", help="Keep running in the background once it is up.")] = False,
    no_dashboard: Annotated[bool, typer.Option("--no-dashboard", help="Start Ray without its dashboard.")] = False,
) -> int:
    """Start the supervisor and show a live table.

    Runs until SIGINT, SIGTERM, SIGHUP or `stop`, then shuts down in order with exit status 0. In the background, and
    under a service manager, SIGHUP reloads the configuration.
    """
    from supervisor.cli.console import DEFAULT_CONFIG, load, refuse_second_journal
    from supervisor.cli.start import start as run

    configuration = load(config)
    refuse_second_journal(configuration, config)
    path = config or DEFAULT_CONFIG
    return run(configuration, detach=detach, dashboard=not no_dashboard, verbose=_verbose(ctx), path=path)


@app.command()
def reconcile(
    config: Config = None,
    account: AccountOption = None,
    instrument: InstrumentOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Change nothing; every difference counts as an open break.")
    ] = False,
    as_json: Json = False,
    create: Annotated[
        bool, typer.Option("--create/--no-create", help="Whether to start a new journal if there is none.")
    ] = True,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing if every instrument is in step.")] = False,
) -> int:
    """Check every instrument now and print a verdict for each.

    Works in this process, or through the running supervisor if one holds the journal.
    """
    from supervisor.cli.console import load, refuse_second_journal
    from supervisor.cli.reconcile import reconcile as run

    configuration = load(config)
    refuse_second_journal(configuration, config)
    return run(configuration, account, instrument, dry_run=dry_run, as_json=as_json, create=create, quiet=quiet)


@app.command()
def record(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="The configuration.")],
    account: Annotated[str, typer.Option("--account", help="The account they belong to.")],
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="A JSON Lines file; standard input if omitted.")
    ] = None,
) -> int:
    """Record your orders, fills and positions in the books.

    Reads JSON Lines for one account. Either every line is recorded, or none is.
    """
    from supervisor.cli.console import load, refuse_second_journal
    from supervisor.cli.reconcile import record as run

    configuration = load(config)
    refuse_second_journal(configuration, config)
    return run(configuration, account, file)


@app.command()
def status(
    config: ConfigOption = None,
    as_json: Json = False,
    watch: Annotated[bool, typer.Option("--watch", help="Keep updating until Ctrl-C.")] = False,
) -> int:
    """Show what the running supervisor knows.

    Same exit status as `reconcile`, from the latest reports; 3 if no supervisor answers.
    """
    from supervisor.cli.console import load_place
    from supervisor.cli.operate import status as run

    return run(load_place(config), as_json=as_json, watch=watch)


@app.command()
def pause(
    name: Name = None, account: AccountOption = None, instrument: InstrumentOption = None, config: ConfigOption = None
) -> int:
    """Stop checking instruments until `resume`."""
    return _pause(name, account, instrument, config, resume=False)


@app.command()
def resume(
    name: Name = None, account: AccountOption = None, instrument: InstrumentOption = None, config: ConfigOption = None
) -> int:
    """Resume paused instruments and lift trading halts.

    For an account this includes the halts of its instruments. A wider halt stays in force and is shown.
    """
    return _pause(name, account, instrument, config, resume=True)


@app.command()
def halt(
    name: Name = None,
    account: AccountOption = None,
    instrument: InstrumentOption = None,
    reason: Annotated[str | None, typer.Option("--reason", help="The reason, shown wherever the halt is.")] = None,
    config: ConfigOption = None,
) -> int:
    """Halt trading until `resume`.

    `trading_allowed` becomes false for an instrument, an account or everything, and stays false across restarts.
    Nothing is sent to a broker, and reconciliation continues.
    """
    from supervisor.cli.console import load_place
    from supervisor.cli.operate import halt as run

    return run(load_place(config), *_selected(name, account, instrument), reason)


def _pause(name: str | None, account: str | None, instrument: str | None, config: Path | None, *, resume: bool) -> int:
    from supervisor.cli.console import load_place
    from supervisor.cli.operate import pause as run

    return run(load_place(config), *_selected(name, account, instrument), resume=resume)


def _selected(name: str | None, account: str | None, instrument: str | None) -> tuple[str | None, str | None]:
    from supervisor.cli.console import Failure

    if name is None:
        return account, instrument
    if account is not None or instrument is not None:
        raise Failure("name it once: as ACCOUNT/INSTRUMENT, or with --account and --instrument")
    account, rest = split_name(name)
    return account, rest or None


@app.command()
def restart(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name that `status` shows: fx, fx/GBP_JPY, audit.")],
    config: ConfigOption = None,
) -> int:
    """Restart one actor; this also ends its quarantine."""
    from supervisor.cli.console import load_place
    from supervisor.cli.operate import restart as run

    return run(load_place(config), name)


@app.command()
def drain(
    node: Annotated[str, typer.Argument(metavar="NODE", help="Its address, or the beginning of its id.")],
    force: Annotated[
        bool, typer.Option("--force", help="Also if actors can go nowhere else: they stay until it ends.")
    ] = False,
    config: ConfigOption = None,
) -> int:
    """Move every actor off a machine before it goes.

    Accounts and instruments go to other nodes with their labels, one after another, each verified before the next.
    Then Ray ends on that machine. Returns when all have left; 3 if some stay.
    """
    from supervisor.cli.console import load_place
    from supervisor.cli.drain import drain as run

    return run(load_place(config), node, force=force)


@app.command()
def story(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name that `status` shows: fx, fx/GBP_JPY, audit.")],
    config: ConfigOption = None,
) -> int:
    """Show what happened to one actor, and why.

    Lists each change of its state since the supervisor started, with the event that caused it.
    """
    from supervisor.cli.console import load_place
    from supervisor.cli.operate import story as run

    return run(load_place(config), name)


@app.command()
def stop(config: ConfigOption = None) -> int:
    """Stop the running supervisor in order.

    Returns once everything has stopped.
    """
    from supervisor.cli.console import load_place
    from supervisor.cli.operate import stop as run

    return run(load_place(config))


@app.command(name="apply")
def apply_configuration(
    config: Config = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Also drop accounts and instruments that are not known to be flat.")
    ] = False,
    rolling: Annotated[
        bool, typer.Option("--rolling", help="Upgrade the code of what runs instead, actor by actor.")
    ] = False,
    as_json: Json = False,
) -> int:
    """Apply a configuration to the running supervisor.

    Shows the differences and makes them; whatever is unchanged is left alone. All or nothing, journaled, and kept if
    the supervisor crashes. The journal and the Ray cluster cannot be changed.

    With --rolling, after a new version was installed: replaces the supervisor and then the actors, one after another,
    each verified before the next. Stops at the first that does not come up (3); repeat it to go on.
    """
    from supervisor.cli.apply import apply as run
    from supervisor.cli.console import DEFAULT_CONFIG, Failure, load

    if rolling:
        from supervisor.cli.rolling import rolling as upgrade

        if force:
            raise Failure("--rolling changes no configuration, so there is nothing to force: leave --force out")
        return upgrade(load(config), config or DEFAULT_CONFIG, dry_run=dry_run, as_json=as_json)
    return run(load(config), config or DEFAULT_CONFIG, force=force, dry_run=dry_run, as_json=as_json)


@app.command()
def check(
    config: Config = None,
    connect: Annotated[
        bool, typer.Option("--connect", help="Also connect to the broker of each enabled account.")
    ] = False,
    as_json: Json = False,
) -> int:
    """Check a configuration and, if asked, its brokers.

    Prints what it means, or every mistake in it (exit status 2).
    """
    from supervisor.cli.check import check as run

    return run(config, connect=connect, as_json=as_json)


@app.command()
def metrics(
    config: ConfigOption = None,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 picks a free port.")] = 9464,
    host: Annotated[
        str, typer.Option("--host", help="Where to listen. Anyone who reaches it can read the metrics.")
    ] = ("127.0.0.1"),
) -> int:
    """Serve the running supervisor's status to Prometheus.

    Runs as a separate process until SIGINT or SIGTERM; it may start before the supervisor and outlive it.
    """
    from supervisor.cli.console import load_place
    from supervisor.cli.metrics import metrics as run

    return run(load_place(config), port=port, host=host)


@app.command(name="console")
def the_page(
    config: ConfigOption = None,
    port: Annotated[
        int | None, typer.Option("--port", min=0, max=65535, help="0 picks a free port; default 8321.")
    ] = None,
    add: Annotated[str | None, typer.Option("--add", metavar="NAME", help="Add a user and print their token.")] = (
        None
    ),
    role: Annotated[str | None, typer.Option("--role", help="With --add: viewer, operator or approver.")] = None,
) -> int:
    """Serve the page for operators.

    It shows what needs attention, book and broker side by side, breaks with their evidence and history, the book at any
    time in the past, and whether the journal is intact. Runs as a separate process on loopback until SIGINT or SIGTERM;
    it may start before the supervisor and outlive it. Needs the extra `console`.
    """
    from supervisor.cli.console import load_place
    from supervisor.cli.page import add_user, page

    configuration = load_place(config, ("console", "breaks"))
    if add is not None or role is not None:
        return add_user(configuration, add, role)
    return page(configuration, port)


@app.command()
def report(
    config: ConfigOption = None,
    journal: Annotated[
        Path | None, typer.Option("--journal", help="Read this journal file, without a configuration.")
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="Start of the period: 24h (ago), 2026-01-31.")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="TIME", help="End of the period; now if omitted.")
    ] = None,
    day: Annotated[str | None, typer.Option("--day", help="One UTC day: 2026-01-31, today, yesterday.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The HTML file to write.")] = None,
    as_json: Json = False,
    verify: Annotated[bool, typer.Option("--verify/--no-verify", help="Check the journal's whole chain.")] = True,
) -> int:
    """Report what happened, as one HTML page or as JSON.

    When each book was verified and for how long it was not, breaks by type, cause and age, corrections and who approved
    them, who did what, restarts, outages, and the journal's head. Reads the journal, also while a supervisor runs.
    """
    from supervisor.cli.report import report as run

    return run(config, journal, since=since, until=until, day=day, out=out, as_json=as_json, verify=verify)


@app.command()
def sink(
    uri: Annotated[str, typer.Argument(metavar="URI", help="The Delta table: a folder, or s3://… with AWS_* set.")],
    config: ConfigOption = None,
    every_s: Annotated[float, typer.Option("--every-s", min=0.1, max=3600, help="Seconds between two batches.")] = 3.0,
    once: Annotated[bool, typer.Option("--once", help="Write what there is, then exit.")] = False,
) -> int:
    """Write the journal's position updates to a Delta table.

    Each update is written once, whatever crashes. Runs as a separate process until SIGINT or SIGTERM; it may start
    before the supervisor and outlive it. Needs the extra `delta`.
    """
    from supervisor.cli.console import load_place
    from supervisor.cli.sink import sink as run

    return run(load_place(config), uri, every_s=every_s, once=once)


@app.command()
def dashboard(
    config: ConfigOption = None,
    open_it: Annotated[bool, typer.Option("--open", help="Also open it in a browser.")] = False,
) -> int:
    """Show the address of Ray's dashboard and its token.

    The dashboard shows the actors' processes, memory and logs. Anyone with the token can run code in the cluster, so it
    is printed to a terminal only.
    """
    from supervisor.cli.console import load_place
    from supervisor.cli.dashboard import dashboard as run

    return run(load_place(config), open_it=open_it)


@app.command()
def simulate(
    broker: Annotated[str, typer.Argument(metavar="BROKER", help="oanda, mt5, ib or kite.")],
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="The port on 127.0.0.1; 0 picks a free one.")],
    instrument: Annotated[
        list[str] | None, typer.Option("--instrument", help="An instrument to trade; may be repeated.")
    ] = None,
    token: Annotated[str | None, typer.Option("--token", help="oanda and kite: the token to accept.")] = None,
    account_id: Annotated[str | None, typer.Option("--account-id", help="oanda, kite, ib: the account id.")] = None,
    login: Annotated[int | None, typer.Option("--login", min=1, help="mt5: the login.")] = None,
    still: Annotated[bool, typer.Option("--still", help="Start with an empty account that does not trade.")] = False,
) -> int:
    """Run a broker simulator on its own.

    It trades now and then, until SIGINT or SIGTERM.
    """
    from supervisor.cli.simulate import simulate as run

    return run(
        broker,
        port=port,
        instruments=instrument or [],
        token=token,
        account_id=account_id,
        login=login,
        still=still,
    )


def main() -> NoReturn:
    """Run the command line on this process's arguments."""
    from supervisor.changes.asking import Via, came_by

    came_by(Via.COMMAND_LINE)
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - it was closed (>&-); else a file takes its place
    app(prog_name="python -m supervisor")
    raise SystemExit(0)
