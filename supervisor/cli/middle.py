"""Text shortened in its middle where there is no room: the cause stands at the end of a reason."""

from __future__ import annotations

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.text import Text

_LEAST = 4


def cut(text: str, width: int) -> str:
    """The text in at most ``width`` characters: a third of them from its beginning, the rest from its end."""
    text = " ".join(text.split())
    if len(text) <= width:
        return text
    head = max(0, (width - 1) // 3)
    return f"{text[:head]}…{text[len(text) - max(0, width - 1 - head) :]}" if width > 0 else ""


class Middle:
    """A line of text, shortened to the room there is."""

    def __init__(self, text: str, style: str = "") -> None:
        self.plain = text
        self._style = style

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The line that fits."""
        yield Text(cut(self.plain, options.max_width), self._style, no_wrap=True)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """From a few letters to the whole line."""
        return Measurement(min(_LEAST, len(self.plain)), max(1, len(self.plain))).with_maximum(options.max_width)
