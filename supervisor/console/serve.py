"""The page's process: its port, its server, and its end by a signal."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

import uvicorn

from supervisor.cli.console import Failure
from supervisor.config.models import Configuration, is_loopback
from supervisor.console.app import Console
from supervisor.console.desk import RunningDesk
from supervisor.console.feed import Feed
from supervisor.console.guard import Names

if TYPE_CHECKING:
    from supervisor.console.desk import Desk

DEFAULT_PORT = 8321
_CLOSE_WITHIN_S = 2


def listening(configuration: Configuration, port: int | None) -> socket.socket:
    """The page's port, bound. Raises :class:`Failure`."""
    settings = configuration.console
    host = settings.host.strip("[]")
    wanted = port if port is not None else settings.port if settings.port is not None else DEFAULT_PORT
    if not is_loopback(settings.host) and settings.url is None:
        raise Failure(f"console.host {settings.host} is reached by others: set console.url, and TLS before it")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    taken = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # asyncio sets TCP_NODELAY only for this
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind((host, wanted))
        taken.listen(128)
    except OSError as error:
        taken.close()
        raise Failure(f"{host}:{wanted} cannot be used: {error.strerror or error}. Choose another --port") from None
    return taken


def address_of(configuration: Configuration, taken: socket.socket) -> str:
    """The address of the page for people."""
    if configuration.console.url is not None:
        return f"{configuration.console.url}/"
    host = configuration.console.host
    return f"http://{f'[{host}]' if ':' in host and not host.startswith('[') else host}:{taken.getsockname()[1]}/"


class Server(uvicorn.Server):
    """The server; ``stop`` ends it from any thread. Its owner handles the signals."""

    def __init__(self, config: uvicorn.Config, feed: Feed) -> None:
        super().__init__(config)
        self._feed = feed

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the open pages first: otherwise the server would wait for them, and then cut them off."""
        await self._feed.close()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]  # as the base class has it
        """Handle none: the owner of this server does, and calls :meth:`stop`."""
        yield

    def stop(self) -> None:
        """End it within some seconds."""
        self.should_exit = True


def server(configuration: Configuration, taken: socket.socket, desk: Desk | None = None) -> tuple[Server, Console]:
    """The page on a bound port, ready to run."""
    port = taken.getsockname()[1]
    names = Names.of(port, configuration.console.url)
    console = Console(configuration, desk or RunningDesk(configuration), lambda: names)
    config = uvicorn.Config(
        console.app,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=True,
        proxy_headers=False,
        lifespan="on",
        timeout_graceful_shutdown=_CLOSE_WITHIN_S,
        h11_max_incomplete_event_size=16_384,
        limit_concurrency=500,
    )
    return Server(config, console.feed), console


def serve(
    configuration: Configuration,
    port: int | None,
    on_address: Callable[[str], None],
    stops: Callable[[Callable[[], None]], None],
) -> None:
    """Serve until stopped; ``stops`` receives the function that stops it. Raises :class:`Failure`."""
    with listening(configuration, port) as taken:
        made, _ = server(configuration, taken)
        stops(made.stop)
        on_address(address_of(configuration, taken))
        made.run(sockets=[taken])
