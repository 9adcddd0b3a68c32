"""Ctrl-C ends a command that waits for its broker, however unluckily it arrives."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator

import pytest

from supervisor.cli import signals

SLEEPS_S = 5.0


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """As at a terminal: what a shell starts in the background ignores interrupts, the tests too."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def in_another_thread() -> None:
    """As where it arrives just before the event loop goes to sleep: Python notes it, and the main thread sleeps on."""
    signal.pthread_kill(threading.get_ident(), signal.SIGINT)


def to_the_process() -> None:
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


@pytest.mark.parametrize("interrupt", [in_another_thread, to_the_process])
def test_an_interrupt_wakes_the_event_loop_and_ends_what_it_waits_for(interrupt: Callable[[], None]) -> None:
    ended: list[str] = []

    async def waits() -> None:
        loop, forever = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            ended.append("slept through it")
            loop.call_soon_threadsafe(forever.set)

        waker = threading.Timer(SLEEPS_S, wake)
        waker.start()
        threading.Timer(0.05, interrupt).start()
        try:
            await forever.wait()
        finally:
            waker.cancel()
            ended.append("closed")

    with pytest.raises(KeyboardInterrupt):
        signals.run(waits())

    assert ended == ["closed"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_ignores_an_interrupt_goes_on_ignoring_it() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:

        async def goes_on() -> str:
            signal.raise_signal(signal.SIGINT)
            await asyncio.sleep(0)
            return "done"

        assert signals.run(goes_on()) == "done"
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_thread_of_a_program_runs_it_too() -> None:
    done: list[str] = []

    async def work() -> str:
        return "done"

    thread = threading.Thread(target=lambda: done.append(signals.run(work())))
    thread.start()
    thread.join()
    assert done == ["done"]
