"""The life of a stream, whatever it follows: how it stands, whom it notifies, and what a forgotten run can still do."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

from brokers.kit.event_stream import EventStream, Run
from brokers.port import OnEvent, StreamState

AT = datetime(2026, 1, 5, tzinfo=UTC)


class Followed(EventStream[Run]):
    """A stream whose thread is the test's: ``says`` is what an adapter would call there."""

    def __init__(self, silence_s: float = 60.0) -> None:
        super().__init__("fx", lambda: AT, Run, silence_s)
        self.subject, self.silence = "the stream of 1 ", "has said nothing"
        self.runs: list[Run] = []
        self.ended: list[Run] = []

    def _begin(self, run: Run) -> None:
        self.runs.append(run)

    def _end(self, run: Run) -> None:
        self.ended.append(run)

    def says(self, run: Run, instrument: str | None) -> None:
        self._hear()
        self._stand(run, StreamState.LIVE)
        self._report(run, instrument)

    def breaks(self, run: Run, why: str) -> None:
        self._stand(run, StreamState.CONNECTING, why)


def started(on_event: OnEvent, silence_s: float = 60.0) -> Followed:
    stream = Followed(silence_s)
    stream.start(on_event)
    return stream


def ignore(_: str | None) -> None:
    """Nobody listens."""


def test_it_stands_as_its_run_says_and_says_why() -> None:
    stream = Followed()
    assert (stream.state, stream.error, stream.last_heard_at) == (StreamState.CLOSED, None, None)
    stream.start(ignore)
    assert (stream.state, stream.error) == (StreamState.CONNECTING, None)
    stream.says(stream.runs[0], None)
    assert (stream.state, stream.error, stream.last_heard_at) == (StreamState.LIVE, None, AT)
    stream.breaks(stream.runs[0], "was cut")
    assert (stream.state, stream.error) == (StreamState.CONNECTING, "fx: the stream of 1 was cut")
    stream.close()
    assert (stream.state, stream.error) == (StreamState.CLOSED, None)


def test_silence_is_measured_by_the_clock_and_not_by_the_connection() -> None:
    """Even where whatever should cut a silent connection hangs."""
    stream = started(ignore, silence_s=-1.0)  # every moment is later than that
    assert stream.state is StreamState.CONNECTING
    stream.says(stream.runs[0], None)
    assert (stream.state, stream.error) == (StreamState.SILENT, "fx: the stream of 1 has said nothing")


def test_a_run_that_was_closed_or_replaced_changes_nothing_and_notifies_nobody() -> None:
    heard: list[str | None] = []
    stream = started(heard.append)
    stream.start(heard.append)
    first, second = stream.runs
    assert stream.ended == [first]
    stream.says(first, "OLD")
    assert (stream.state, heard) == (StreamState.CONNECTING, [])
    stream.says(second, "NEW")
    stream.breaks(first, "ended late")
    assert (stream.state, stream.error, heard) == (StreamState.LIVE, None, ["NEW"])
    stream.close()
    stream.close()
    stream.says(second, "LATE")
    assert (stream.state, heard, stream.ended) == (StreamState.CLOSED, ["NEW"], [first, second])


def test_a_listener_may_close_the_stream_that_notifies_it() -> None:
    stream = Followed()
    heard: list[str | None] = []

    def listen(instrument: str | None) -> None:
        heard.append(instrument)
        stream.close()

    stream.start(listen)
    stream.says(stream.runs[0], "A")
    stream.says(stream.runs[0], "B")
    assert (heard, stream.state) == (["A"], StreamState.CLOSED)


def test_an_error_of_the_listener_ends_nothing() -> None:
    heard: list[str | None] = []

    def listen(instrument: str | None) -> None:
        heard.append(instrument)
        raise RuntimeError("of ours")

    stream = started(listen)
    stream.says(stream.runs[0], "A")
    stream.says(stream.runs[0], "B")
    assert (heard, stream.state, stream.error) == (["A", "B"], StreamState.LIVE, None)


def test_who_closes_waits_for_the_event_that_is_under_way() -> None:
    """No event comes after close returned."""
    entered, leave, closed = threading.Event(), threading.Event(), threading.Event()

    def listen(_: str | None) -> None:
        entered.set()
        leave.wait(10)

    stream = started(listen)

    def close() -> None:
        stream.close()
        closed.set()

    reporting, closing = (
        threading.Thread(target=work, daemon=True) for work in (lambda: stream.says(stream.runs[0], "A"), close)
    )
    reporting.start()
    assert entered.wait(10)
    closing.start()
    assert not closed.is_set()
    leave.set()
    reporting.join(10)
    assert closed.wait(10)
