"""What concerns every test: which of them must not run side by side when the suite is spread over processes, what they
do not take over from the shell that starts them, and the seeds that CI tries."""

from __future__ import annotations

import os
import signal
from typing import Any

import hypothesis
import pytest

from tests.fresh import IN_CI, SEEDS

TOGETHER = {"tests/cluster/": "ray", "tests/faults/": "ray", "tests/console/test_browser.py": "browser"}
"""Tests of one group run in one process: two clusters at once are more than two cores carry."""

# Whoever still calls Ray after a test has ended it gets an error: Ray would start another one for it, in the middle of
# the next test.
os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"

os.environ.pop("COLUMNS", None)  # pytest-xdist sets it for its workers: tables are as wide as where nobody looks

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # What a shell starts in the background ignores interrupts, and so would every process that a test starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)


# Hypothesis fails an example that takes 0.2 s, as the first one may on a busy machine. Not where CI is set, but there
# it repeats the same examples: here each run of CI tries others. A failure prints them.
FRESH = hypothesis.settings(hypothesis.settings.get_profile("ci"), derandomize=False)
ANY_SPEED = hypothesis.settings(deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.register_profile("ours", FRESH if IN_CI else ANY_SPEED)
hypothesis.settings.load_profile("ours")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show which seeds the campaigns of this run used."""
    reports = [one for of_outcome in ("passed", "failed") for one in terminalreporter.stats.get(of_outcome, ())]
    for report in reports:
        for name, value in report.user_properties:
            if name == SEEDS:
                terminalreporter.write_line(f"seeds of {value}")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Hand out tests one by one, and those of a group to one process. The marks of ``--dist loadgroup`` group nothing
    with today's versions of pytest and pytest-xdist (findings/pytest_xdist_groups_nothing.sh)."""
    if config.getvalue("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]  # it ships no types

    class Grouped(LoadScopeScheduling):  # type: ignore[misc]  # as above
        def _split_scope(self, nodeid: str) -> str:
            return next((group for place, group in TOGETHER.items() if nodeid.startswith(place)), nodeid)

    return Grouped(config, log)
