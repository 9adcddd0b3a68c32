"""The page that `start` serves, as a process of its own."""

from __future__ import annotations

import os
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from supervisor.cli.page_process import AGAIN_AFTER_S, PageProcess
from supervisor.config.loader import load
from tests.console.living import PATIENCE_S
from tests.console.test_serve import written
from tests.ports import own_port


def until(holds: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline_s, "it did not come to that"
        time.sleep(0.01)  # another process comes and goes


def serves(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
            return bool(answer.status == 200)
    except urllib.error.URLError:
        return False


@pytest.mark.skipif(not os.environ.get("RUN_SLOW"), reason="another interpreter's start: set RUN_SLOW to run it")
def test_it_serves_until_it_is_stopped(tmp_path: Path) -> None:
    port = own_port()
    page = PageProcess(load(written(tmp_path, f"{{port: {port}}}")))
    try:
        page.keep(0.0)
        until(lambda: page.address is not None)
        assert (page.address, serves(port)) == (f"http://127.0.0.1:{port}/", True)
    finally:
        page.stop()
    assert (page.address, serves(port)) == (None, False)


def test_one_that_was_killed_is_tried_again_after_a_while(tmp_path: Path) -> None:
    stand_in = "import sys; print('http://127.0.0.1:1/', flush=True); sys.stdin.read()"
    page = PageProcess(load(written(tmp_path, "{port: 1}")), (sys.executable, "-c", stand_in))

    def after(now_s: float) -> int | None:
        page.keep(now_s)
        return page.pid

    try:
        first = after(0.0)
        assert first is not None
        assert after(1.0) == first
        until(lambda: page.address is not None)
        os.kill(first, signal.SIGKILL)
        until(lambda: after(2.0) is None)
        assert page.address is None
        assert after(2.0 + AGAIN_AFTER_S - 1) is None
        assert after(2.0 + AGAIN_AFTER_S) not in (None, first)
    finally:
        page.stop()
    page.stop()
    assert page.pid is None
