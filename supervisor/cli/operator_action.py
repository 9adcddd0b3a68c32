"""Records in a journal without a running supervisor what an operator did to it: who, how, by which version."""

from __future__ import annotations

from datetime import UTC, datetime

from actors.events import Event, EventType, Json, Severity, event_id
from actors.journal.store import Append, Journal
from actors.names import SUPERVISOR
from supervisor.changes.asking import asked, said_of


def journal_action(journal: Journal, action: str, **details: Json) -> None:
    """Append the action to the supervisor's stream of a journal that this process writes. Raises ``JournalError``."""
    (probed,) = journal.append([Append(SUPERVISOR, -1, ())])
    version = getattr(probed, "actual_version", 0)
    payload: dict[str, Json] = {"action": action, **details, **said_of(asked())}
    identity = event_id(SUPERVISOR, str(version + 1), EventType.OPERATOR_ACTION, action)
    done = Event(identity, EventType.OPERATOR_ACTION, Severity.INFO, datetime.now(UTC), payload)
    for outcome in journal.append([Append(SUPERVISOR, version, (done,))]):
        if isinstance(outcome, Exception):
            raise outcome
