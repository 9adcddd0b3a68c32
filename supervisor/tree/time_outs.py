"""The name under which the supervisor lives, and how long it waits for the actors it calls."""

from __future__ import annotations

SUPERVISOR = "supervisor"

PROBE_TIMEOUT_S = 3.0
STOP_CALL_TIMEOUT_S = 8.0
START_TIMEOUT_S = 120.0
