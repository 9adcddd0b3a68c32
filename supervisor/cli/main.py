"""The command line: ``python -m supervisor``.

Exit status: 0 every instrument in step, or done · 1 a break is open · 2 usage or configuration · 3 a broker, the
journal or the supervisor did not answer (3 before 1) · 70 an error of this program · 130 interrupted.

Each command imports what it needs when it runs, so that ``reconcile`` never waits for Ray.
"""

from __future__ import annotations

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
    """Turns what stops a command into a message and an exit status."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command. It returns its exit status."""
        try:
            status = super().invoke(ctx)
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
Name = Annotated[str | None, typer.Argument(metavar="ACCOUNT[/INSTRUMENT]", help="What; everything if left out.")]


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


@app.command()
def start(
    ctx: typer.Context,
    config: Config = None,
    detach: Annotated[bool, typer.Option("--detach", help="Leave it running in the background when it is up.")] = False,
    no_dashboard: Annotated[bool, typer.Option("--no-dashboard", help="Start Ray without its dashboard.")] = False,
) -> int:
    """Start everything, and show it.

    Until SIGINT, SIGTERM, SIGHUP or `stop`; then all is ended in order, with status 0. In the background, and under a
    service manager, SIGHUP has the configuration read again.
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
        bool, typer.Option("--dry-run", help="Change nothing; each difference is an open break.")
    ] = False,
    as_json: Json = False,
    create: Annotated[
        bool, typer.Option("--create/--no-create", help="Whether to begin a journal where there is none.")
    ] = True,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print nothing where every instrument is in step.")
    ] = False,
) -> int:
    """One verdict per instrument.

    In this process, or by the running supervisor where one holds the journal.
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
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="JSON Lines; standard input if left out.")] = None,
) -> int:
    """Put our orders and fills into the books.

    JSON Lines of orders, fills and positions of one account: all of them, or none.
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
    watch: Annotated[bool, typer.Option("--watch", help="Show it live, until Ctrl-C.")] = False,
) -> int:
    """What the running supervisor knows.

    Exit status as `reconcile`, from its last reports; 3 where no supervisor answers.
    """
    from supervisor.cli.console import load_place
    from supervisor.cli.operate import status as run

    return run(load_place(config), as_json=as_json, watch=watch)


@app.command()
def pause(
    name: Name = None, account: AccountOption = None, instrument: InstrumentOption = None, config: ConfigOption = None
) -> int:
    """Let instruments rest until `resume`."""
    return _pause(name, account, instrument, config, resume=False)


@app.command()
def resume(
    name: Name = None, account: AccountOption = None, instrument: InstrumentOption = None, config: ConfigOption = None
) -> int:
    """Let paused instruments go on, and end the halts of trading.

    Of an account: with those of its instruments. A halt of more than is named here stays in force, and is shown.
    """
    return _pause(name, account, instrument, config, resume=True)


@app.command()
def halt(
    name: Name = None,
    account: AccountOption = None,
    instrument: InstrumentOption = None,
    reason: Annotated[str | None, typer.Option("--reason", help="Why, for whoever asks.")] = None,
    config: ConfigOption = None,
) -> int:
    """Tell strategies to stop trading, until `resume`.

    An instrument, an account, or everything: `trading_allowed` is false there, over every restart. Nothing is sent to
    a broker, and reconciliation goes on.
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
        raise Failure("name it once: as ACCOUNT/INSTRUMENT, or by --account and --instrument")
    account, rest = split_name(name)
    return account, rest or None


@app.command()
def restart(
    name: Annotated[str, typer.Argument(metavar="NAME", help="As `status` shows it: fx, fx/GBP_JPY, audit.")],
    config: ConfigOption = None,
) -> int:
    """Restart one actor; ends a quarantine."""
    from supervisor.cli.console import load_place
    from supervisor.cli.operate import restart as run

    return run(load_place(config), name)


@app.command()
def story(
    name: Annotated[str, typer.Argument(metavar="NAME", help="As `status` shows it: fx, fx/GBP_JPY, audit.")],
    config: ConfigOption = None,
) -> int:
    """What became of one actor, and why.

    Which event led from which state to which, since the supervisor began.
    """
    from supervisor.cli.console import load_place
    from supervisor.cli.operate import story as run

    return run(load_place(config), name)


@app.command()
def stop(config: ConfigOption = None) -> int:
    """Stop the running supervisor in order.

    Returns when everything has ended.
    """
    from supervisor.cli.console import load_place
    from supervisor.cli.operate import stop as run

    return run(load_place(config))


@app.command(name="apply")
def apply_configuration(
    config: Config = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Let go of accounts and instruments that are not known to be flat.")
    ] = False,
    as_json: Json = False,
) -> int:
    """Make what runs what a configuration says.

    Shows the difference and carries it out; what does not differ is not touched. All or nothing, journaled, and kept
    over a crash of the supervisor. The journal and the Ray cluster cannot be changed.
    """
    from supervisor.cli.apply import apply as run
    from supervisor.cli.console import DEFAULT_CONFIG, load

    return run(load(config), config or DEFAULT_CONFIG, force=force, dry_run=dry_run, as_json=as_json)


@app.command()
def check(
    config: Config = None,
    connect: Annotated[bool, typer.Option("--connect", help="Try each enabled account's broker.")] = False,
    as_json: Json = False,
) -> int:
    """Read a configuration, try its brokers.

    Says what it means, or everything that is wrong with it (exit status 2).
    """
    from supervisor.cli.check import check as run

    return run(config, connect=connect, as_json=as_json)


@app.command()
def metrics(
    config: ConfigOption = None,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes any that is free.")] = 9464,
    host: Annotated[str, typer.Option("--host", help="Only for a network that you trust: anyone there may read.")] = (
        "127.0.0.1"
    ),
) -> int:
    """Serve the running supervisor's status to Prometheus.

    A process of its own, until SIGINT or SIGTERM; it may start before the supervisor and outlive it.
    """
    from supervisor.cli.console import load_place
    from supervisor.cli.metrics import metrics as run

    return run(load_place(config), port=port, host=host)


@app.command(name="console")
def the_page(
    config: ConfigOption = None,
    port: Annotated[
        int | None, typer.Option("--port", min=0, max=65535, help="0 takes any that is free; default 8321.")
    ] = None,
    add: Annotated[
        str | None, typer.Option("--add", metavar="NAME", help="Let somebody in, and print their token.")
    ] = (None),
    role: Annotated[str | None, typer.Option("--role", help="With --add: viewer, operator or approver.")] = None,
) -> int:
    """Serve the page for operators.

    What needs a person, book and broker side by side, breaks with their evidence and all that is done about them, the
    book at any past time, and the proof that the journal is whole. A process of its own on loopback, until SIGINT or
    SIGTERM; it may start before the supervisor and outlive it. Needs the extra `console`.
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
    journal: Annotated[Path | None, typer.Option("--journal", help="A journal file, without a configuration.")] = None,
    since: Annotated[str | None, typer.Option("--since", metavar="TIME", help="From then on: 24h, 2026-01-31.")] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="TIME", help="Up to then; now if left out.")] = None,
    day: Annotated[str | None, typer.Option("--day", help="One day of UTC: 2026-01-31, today, yesterday.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The HTML file to write.")] = None,
    as_json: Json = False,
    verify: Annotated[bool, typer.Option("--verify/--no-verify", help="Check the journal's whole chain.")] = True,
) -> int:
    """What happened, as one HTML page and JSON.

    When each book was proven to be its broker's and how long not, breaks by type, cause and age, corrections and who
    approved them, who did what, restarts, outages, and the journal's head. From the journal, also beside its writer.
    """
    from supervisor.cli.report import report as run

    return run(config, journal, since=since, until=until, day=day, out=out, as_json=as_json, verify=verify)


@app.command()
def sink(
    uri: Annotated[str, typer.Argument(metavar="URI", help="A Delta table: a folder, or s3://… as AWS_* say.")],
    config: ConfigOption = None,
    every_s: Annotated[float, typer.Option("--every-s", min=0.1, max=3600, help="Time between two batches.")] = 3.0,
    once: Annotated[bool, typer.Option("--once", help="Write what there is, and end.")] = False,
) -> int:
    """Position updates of the journal into a Delta table.

    Each once, whatever crashes. A process of its own, until SIGINT or SIGTERM; it may start before the supervisor and
    outlive it. Needs the extra `delta`.
    """
    from supervisor.cli.console import load_place
    from supervisor.cli.sink import sink as run

    return run(load_place(config), uri, every_s=every_s, once=once)


@app.command()
def dashboard(
    config: ConfigOption = None,
    open_it: Annotated[bool, typer.Option("--open", help="Open it in a browser, too.")] = False,
) -> int:
    """Where Ray's own dashboard is, and the token that it asks for.

    It shows the actors' processes, their memory and their logs. Whoever has the token can run code in the cluster: it
    is printed at a terminal alone.
    """
    from supervisor.cli.console import load_place
    from supervisor.cli.dashboard import dashboard as run

    return run(load_place(config), open_it=open_it)


@app.command()
def simulate(
    broker: Annotated[str, typer.Argument(metavar="BROKER", help="oanda, mt5, ib or kite.")],
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="On 127.0.0.1; 0 takes any that is free.")],
    instrument: Annotated[
        list[str] | None, typer.Option("--instrument", help="What is traded; may be repeated.")
    ] = None,
    token: Annotated[str | None, typer.Option("--token", help="oanda: the token it accepts.")] = None,
    account_id: Annotated[str | None, typer.Option("--account-id", help="oanda: its account.")] = None,
    login: Annotated[int | None, typer.Option("--login", min=1, help="mt5: its login.")] = None,
    still: Annotated[bool, typer.Option("--still", help="An account that is empty and does not trade.")] = False,
) -> int:
    """Run a broker simulator by itself.

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
    app(prog_name="python -m supervisor")
    raise SystemExit(0)
