"""What a configuration permits although it is risky, and what has no effect where it stands: reported at every start
and by ``check``, never refused."""

from __future__ import annotations

import os
import re
import stat
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from brokers.errors import Refused
from brokers.spec import SecretSource
from supervisor.config.models import AnyAccount, Configuration, Mt5Account
from supervisor.config.without_effect import of_all, without_effect

_LOOPBACK_HOST = re.compile(r"/.*|127(\.\d{1,3}){3}|localhost|::1")
_THIS_MACHINE = re.compile(r"ipc://.*|tcp://(127(\.\d{1,3}){3}|localhost|\[::1\]):\d+")


def cautions(configuration: Configuration) -> tuple[str, ...]:
    """One sentence for each, with what to do; none contains a secret."""
    found = [] if configuration.enabled_accounts else ["no account is enabled: nothing is checked. Set enabled: true"]
    for account in configuration.enabled_accounts:
        found += [*_of_account(account), *without_effect(configuration, account)]
    found += [*of_all(configuration), *_of_journal_and_nodes(configuration), *_of_the_journals_server(configuration)]
    if not configuration.ray.require_auth:
        found.append("ray.require_auth is false: anyone who reaches a cluster without a token can run code in it")
    return tuple(dict.fromkeys(found))


def cautions_of_environment() -> tuple[str, ...]:
    """Packages that are installed beside Ray and slow it down, with what to do."""
    try:
        major, minor = (int(part) for part in version("jsonschema").split(".")[:2])
    except (PackageNotFoundError, ValueError):
        return ()
    loads_parser = find_spec("rfc3987_syntax") is not None and find_spec("rfc3987") is None
    if (major, minor) < (4, 25) or not loads_parser:
        return ()
    said = "rfc3987-syntax is installed (JupyterLab brings it): every process of Ray starts about a second later"
    return (f"{said}. Install with -c constraints.txt, or pip install 'jsonschema<4.25'",)


def _of_journal_and_nodes(configuration: Configuration) -> list[str]:
    """A file is on one machine: a writer on another one finds none, and begins a new one."""
    on_file = isinstance(configuration.journal.url, str)
    names = [one.name for one in configuration.enabled_accounts]
    several = any(configuration.place(name) or configuration.is_spread(name) for name in names)
    if not (several and on_file and not configuration.journal_place):
        return []
    said = f"journal.url is a file ({configuration.journal_name}), and its actor may come up on any node of the cluster"
    return [f"{said}. Set journal.place to labels of the one node that has it, or keep the journal on PostgreSQL"]


def _of_the_journals_server(configuration: Configuration) -> list[str]:
    """PostgreSQL documentation, "SSL Support": by default a client takes any certificate, and goes on without TLS."""
    url = configuration.journal.url
    if isinstance(url, str):
        return []
    from sqlalchemy.exc import ArgumentError

    from actors.journal.postgresql_url import hosts_of, make_server_url

    try:
        said = make_server_url(url.resolve())
    except (Refused, ArgumentError, ValueError):
        return []  # opening it reports the reason
    mode = said.query.get("sslmode", os.environ.get("PGSSLMODE", "prefer"))
    far = [host for host in hosts_of(said) if host and not _LOOPBACK_HOST.fullmatch(host)]
    if mode == "verify-full" or not far:
        return []
    found = f"the journal's server is on another machine, and its certificate is not verified (sslmode={mode})"
    return [
        f"{found}: anyone on the way can read and change it. Add ?sslmode=verify-full&sslrootcert=system to its URL"
    ]


def _of_account(account: AnyAccount) -> list[str]:
    found = []
    for key, ref in account.secrets().items():
        if ref.source is SecretSource.FILE and _readable_by_others(ref.place):
            found.append(
                f"{account.name}: its {key} stands in {ref.place}, which others can read. Use ${{NAME}}, "
                f"file:PATH or keyring:SERVICE/NAME, or chmod 600 {ref.place}"
            )
    if isinstance(account, Mt5Account) and not account.simulator:
        found += _of_gateway(account)
    return found


def _of_gateway(account: Mt5Account) -> list[str]:
    keys = account.curve_key, account.curve_server_key
    places = [one for one in (account.endpoint, account.events_endpoint) if one and not _THIS_MACHINE.fullmatch(one)]
    if None in keys and places:
        if account.insecure:
            return [f"{account.name}: insecure is true: anyone on the way to {places[0]} can read and change it"]
        said = f"{account.name}: {places[0]} is another machine, reached without encryption: anyone on the way can"
        remedy = "Set curve_key and curve_server_key, or insecure: true if you trust the network"
        return [f"{said} read and change it. {remedy}"]
    if account.curve_key is not None and _readable_by_others(account.curve_key):
        return [f"{account.name}: others can read its curve_key. chmod 600 {account.curve_key}"]
    return []


def _readable_by_others(path: str) -> bool:
    try:
        return bool(stat.S_IMODE(os.stat(path).st_mode) & 0o077)
    except OSError:
        return False  # reading the file reports the reason
