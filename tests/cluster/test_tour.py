"""The tour, run as a reader runs it: every cell of the notebook in a kernel, in order, with the default configuration.

It runs once for the whole file; the tests say what its cells must have shown.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import nbformat
import psutil
import pytest
from nbclient import NotebookClient

from actors.journal.store import Journal

pytestmark = pytest.mark.timeout(300)  # the whole of it is in the first test's set-up

NOTEBOOK = Path(__file__).parents[2] / "config" / "tour.ipynb"
CELL_TIMEOUT_S = 120
GONE_WITHIN_S = 20
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class Tour:
    """The notebook after it was run, by the names of its cells."""

    def __init__(self, notebook: nbformat.NotebookNode, directory: Path) -> None:
        self.cells = {cell.id: cell for cell in notebook.cells if cell.cell_type == "code"}
        (self.directory,) = directory.glob("tour-*")

    def text(self, name: str) -> str:
        """What a cell wrote and gave."""
        parts = [
            output.text if output.output_type == "stream" else output.get("data", {}).get("text/plain", "")
            for output in self.cells[name].outputs
        ]
        return _COLOURS.sub("", "\n".join(parts))

    def all_text(self) -> str:
        """What all of them did."""
        return "\n".join(map(self.text, self.cells))


@pytest.fixture(scope="module")
def tour(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tour]:
    directory = tmp_path_factory.mktemp("tour")
    notebook = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]  # it ships no types for it
    resources = {"metadata": {"path": str(NOTEBOOK.parent)}}
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("TOUR_DIRECTORY", str(directory))
        for name in ("RAY_DEDUP_LOGS", "RAY_DEDUP_LOGS_SKIP_REGEX"):  # set where this process started a house before
            environment.delenv(name, raising=False)
        for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "MPLCONFIGDIR"):
            environment.setenv(name, str(directory / name.lower()))
        try:
            NotebookClient(notebook, timeout=CELL_TIMEOUT_S, kernel_name="python3", resources=resources).execute()
            yield Tour(notebook, directory)
        finally:
            _, left = psutil.wait_procs(_processes_of(directory), timeout=GONE_WITHIN_S)
            for process in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
    assert left == [], "the tour leaves no process behind"


def _processes_of(directory: Path) -> list[psutil.Process]:
    """The kernel, and whatever came of it: all that have its environment."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid != psutil.Process().pid and process.environ().get("TOUR_DIRECTORY") == str(directory):
                found.append(process)
    return found


def test_the_notebook_is_kept_without_what_its_cells_showed() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]  # as above
    for cell in notebook.cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


SHOWN = {
    "connect-it": "<supervisor in namespace reconciliation at 127.0.0.1:",
    "status-it": "of 11 in step",
    "frames-it": "mean_cycle_ms",
    "desk-it": "2 of 2 affected actors run the new settings",
    "order-it": "entry-1",
    "fill-it": "known already",
    "post-it": "desk/EUR_USD: SUCCESS after a buy",
    "book-it": "long       100          1.099",
    "allowed-it": "desk/EUR_USD: trading allowed",
    "aio-it": "True",
    "features-it": "desk/EUR_USD: 2 of 4 features differ",
    "corrected-it": "'quantity': '100'",
    "drift-it": "POSITION_MISMATCH long: 100 → 150, force_update_position (drift corrected)",
    "after-it": "long       150          1.101",
    "ghost-it": "NAKED_POSITION long: 150 → nothing, force_close_position (ghost cleared)",
    "cleared-it": "desk/EUR_USD: trading allowed",
    "audit-it": "entry-1: BUY 100 PENDING_SUBMIT",
    "replay-it": "leg long quantity: 100 → 150",
    "verify-it": "chain intact",
    "halted-it": "HALTED    account desk halted since",
    "resumed-it": "desk/EUR_USD: trading allowed",
    "stop-it": "True",
}


@pytest.mark.parametrize("name", SHOWN)
def test_a_cell_shows_what_the_words_above_it_promise(tour: Tour, name: str) -> None:
    """FEATURES 2, 8, 10, 14"""
    assert SHOWN[name] in tour.text(name)


def test_while_a_ghost_is_open_trading_is_not_allowed(tour: Tour) -> None:
    assert "may trade: False" in tour.text("ghost-it")


def test_the_discrepancies_are_drawn(tour: Tour) -> None:
    pictures = [output.data["image/png"] for output in tour.cells["plot-it"].outputs if "image/png" in output.data]
    assert len(pictures) == 1


def test_every_answer_is_one_table_that_a_browser_can_read_and_a_text(tour: Tour) -> None:
    tables = 0
    for cell in tour.cells.values():
        shown = [output for output in cell.outputs if "text/html" in output.get("data", {})]
        assert len(shown) <= 1, f"{cell.id} shows its answer more than once"
        for output in shown:
            assert output.output_type == "execute_result"
            assert output.data["text/plain"].strip()
            if not output.data["text/html"].startswith("<div>\n<style"):  # one of pandas' own
                fragment = f"<body>{output.data['text/html']}</body>"  # one table, or several
                ElementTree.fromstring(fragment)  # noqa: S314 - our own document; a fault raises
                tables += 1
    assert tables > 10


@pytest.mark.parametrize("words", ["ipywidgets", "(raylet)", "worker processes have been started"])
def test_ray_says_nothing_of_its_own_in_a_cell(tour: Tour, words: str) -> None:
    assert words not in tour.all_text()


def test_the_journal_of_the_tour_is_as_it_was_written(tour: Tour) -> None:
    """FEATURES 14"""
    journal = Journal.open(f"sqlite:///{tour.directory / 'var' / 'journal.db'}", read_only=True)
    try:
        assert journal.verify().ok
    finally:
        journal.close()
