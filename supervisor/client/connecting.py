"""``supervisor.connect()``: reaches a running supervisor.

It imports next to nothing until it is clear that one may be there.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from supervisor.client.nobody import DEFAULT_CONFIG, nobody

if TYPE_CHECKING:
    from supervisor.client.blocking import Handle

CONNECT_TIMEOUT_S = 15.0
_A_DAY_S = 86_400


def connect(
    config: str | os.PathLike[str] | None = DEFAULT_CONFIG,
    *,
    address: str | None = None,
    namespace: str | None = None,
    timeout_s: float = CONNECT_TIMEOUT_S,
    strategy: str | None = None,
) -> Handle:
    """The running supervisor that holds a configuration's journal, found by the run file beside it.

    Only ``ray`` and ``journal`` of the configuration are read, so that no secret of an account is needed. Without a
    configuration (``None``, or no file of the default name) it is the only supervisor of ``namespace`` in this
    machine's Ray cluster. ``address`` is host:port of a cluster, for another machine.

    Where nothing runs it says so at once, and needs a tenth of a second of processor time for it. An address that
    accepts connections and answers nothing is given up after six seconds, or after ``timeout_s`` if that is less.
    ``timeout_s`` bounds the wait for a supervisor that is being restarted. Raises
    :class:`~supervisor.errors.NotRunning`, which says where it looked and how to start a supervisor;
    :class:`~supervisor.errors.RayConflict` where Ray in this process is connected to another cluster, or was imported
    with other settings; and ``ConfigurationError``. ``strategy`` names the user of this handle: the journal keeps it
    with every report and request made through it. It may be called any number of times; close each handle, best with a
    ``with`` block.
    """
    if "supervisor.client.connection" not in sys.modules and _usual(address, namespace, timeout_s, strategy):
        clearly = nobody(config, address, timeout_s)  # what follows imports half a second of processor time
        if clearly is not None:
            raise clearly
    from supervisor.client.blocking import Handle
    from supervisor.client.connection import open_connection

    return Handle(open_connection(config, address, namespace, timeout_s, strategy))


def _usual(address: object, namespace: object, timeout_s: object, strategy: object) -> bool:
    """Whether these arguments are in order; what is wrong with others is said elsewhere."""
    named = all(one is None or (isinstance(one, str) and one) for one in (address, strategy))
    number = isinstance(timeout_s, float | int) and not isinstance(timeout_s, bool)
    return named and namespace is None and number and 0 < timeout_s < _A_DAY_S  # type: ignore[operator]  # it is one
