"""Versions read each other's messages: what the reader does with what a sender did not know or knows in addition, and
the list of all that actors say, in which a change is seen."""

from __future__ import annotations

import json
import pickle
import tomllib
from dataclasses import MISSING, dataclass, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

from actors.events import Event
from actors.messages import AccountHealth, Connection, SliceRequest
from brokers import versions
from brokers.versions import MESSAGES, OLDEST_READ, PROGRAM, VERSION, Program, Unreadable, across_versions, program_of
from supervisor.config.loader import load
from supervisor.config.models import Configuration
from tests.unit.builders import at
from tests.unit.messages import name_of, types_said, vocabulary

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests/unit/golden_messages"
SAID: list[Any] = [one for one in types_said() if is_dataclass(one)]
SENT: list[Any] = [one for one in SAID if one is not Event]
"""Those that pickle as a dataclass does."""
WHAT_TO_DO = f"""What actors say to each other has changed. In brokers/versions.py, raise MESSAGES (unless its number
was never released), and OLDEST_READ too where an older program could not read this or be read: a field that went,
moved or has no default, a word of an enumeration or a method that is used towards older actors. Then run
python -m tests.unit.messages > tests/unit/golden_messages/{MESSAGES}.json"""


def required(kind: Any) -> int:
    """How many fields a sender of the first version has to have given."""
    return sum(one.default is MISSING and one.default_factory is MISSING for one in fields(kind))


def read(kind: Any, state: list[object]) -> Any:
    """What a reader makes of what a sender gave."""
    made = kind.__new__(kind)
    made.__setstate__(state)
    return made


def golden(number: int) -> Any:
    return json.loads((GOLDEN / f"{number}.json").read_text())


@pytest.mark.parametrize("kind", SENT, ids=name_of)
def test_every_message_is_read_from_an_older_and_from_a_newer_sender(kind: Any) -> None:
    made, least = fields(kind), required(kind)
    whole = [object() for _ in made]
    for known in range(least, len(made) + 1):
        found = read(kind, whole[:known])
        for place, one in enumerate(made):
            value = getattr(found, one.name)
            if place < known:
                assert value is whole[place], one.name
            elif one.default is not MISSING:
                assert value == one.default, one.name
            else:
                made_anew: Any = one.default_factory  # it has the one or the other
                assert value == made_anew(), one.name
    newer = read(kind, [*whole, "of a later version", 7])
    assert [getattr(newer, one.name) for one in made] == whole


@pytest.mark.parametrize("kind", [one for one in SENT if required(one)], ids=name_of)
def test_a_message_without_what_it_needs_says_so_and_is_not_half_read(kind: Any) -> None:
    with pytest.raises(Unreadable, match=f"a {kind.__name__} of another version") as refused:
        read(kind, [object()] * (required(kind) - 1))
    again = pickle.loads(pickle.dumps(refused.value))  # noqa: S301 - our own bytes
    assert str(again) == str(refused.value)


def test_a_message_that_was_pickled_before_a_field_existed_has_its_default() -> None:
    request = SliceRequest("EUR_USD", at(0), whole=True)
    pickled: Any = request.__reduce_ex__(4)
    made, args, state = pickled[:3]
    again = made(*args)
    again.__setstate__(state[:5])  # as a sender of five fields
    assert again == request
    account = AccountHealth("fx", "oanda", Connection.CONNECTED, None, 0, 0, None, (), (), 1, program=PROGRAM)
    assert pickle.loads(pickle.dumps(account)) == account  # noqa: S301 - our own bytes


def test_whatever_is_said_is_said_so_that_another_version_reads_it() -> None:
    plain: Any = dataclass(frozen=True, slots=True)(type("Plain", (), {"__annotations__": {"one": int}}))
    assert "across_versions" not in plain.__setstate__.__qualname__
    for kind in SENT:
        assert "across_versions" in kind.__setstate__.__qualname__, f"{name_of(kind)} lacks @across_versions"
        assert kind.__dataclass_params__.frozen, f"{name_of(kind)} can change on its way"


def test_what_actors_say_is_what_is_listed() -> None:
    assert vocabulary() == golden(MESSAGES), WHAT_TO_DO


@pytest.mark.parametrize("number", range(OLDEST_READ, MESSAGES + 1))
def test_every_version_that_is_read_finds_what_it_says_and_the_rest_has_defaults(number: int) -> None:
    before, now = golden(number), vocabulary()
    enumerations = {name_of(one) for one in types_said() if issubclass(one, Enum)}
    for kind in ("types", "methods"):
        for name, was in before[kind].items():
            found = now[kind].get(name)
            assert found is not None, f"{name} is gone. {WHAT_TO_DO}"
            if name in enumerations or name.startswith("supervisor.config."):  # by name, in whatever order
                assert set(was) <= {*found, *(f"{one}=" for one in found)}, f"{name}. {WHAT_TO_DO}"
                new = set() if name in enumerations else {one for one in found if f"{one}=" not in was} - {*was}
            else:
                assert [one.rstrip("=") for one in found[: len(was)]] == [one.rstrip("=") for one in was], WHAT_TO_DO
                new = set(found[len(was) :])
            assert all(one.endswith("=") for one in new), f"{name}: {new} has no default. {WHAT_TO_DO}"


@pytest.mark.parametrize(
    ("one", "other", "well"),
    [
        (Program("1", 1, 1), Program("1", 1, 1), True),
        (Program("1", 1, 1), Program("2", 3, 1), True),
        (Program("1", 1, 1), Program("2", 3, 2), False),
        (Program("2", 2, 1), Program("3", 3, 2), True),
        (Program("0"), Program("1", 1, 1), False),
    ],
)
def test_the_newer_of_two_knows_whether_they_read_each_other(one: Program, other: Program, *, well: bool) -> None:
    assert (one.reads(other), other.reads(one)) == (well, well)


def test_a_program_is_named_in_json_and_read_again() -> None:
    assert program_of(json.loads(json.dumps(PROGRAM.to_json()))) == PROGRAM
    assert [program_of(one) for one in (None, "0.1.0", {"version": "0.1.0"})] == [None] * 3


def test_the_version_of_the_code_is_that_of_the_package() -> None:
    package = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert package["version"] == VERSION
    assert PROGRAM.version.partition("+")[0] == VERSION


def test_a_checkout_is_known_by_its_commit(tmp_path: Path) -> None:
    assert versions.commit_of(tmp_path) is None
    git = tmp_path / ".git"
    (git / "refs/heads").mkdir(parents=True)
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    assert versions.commit_of(tmp_path) is None, "nothing was committed"
    (git / "packed-refs").write_text("# pack-refs\naaa refs/heads/mainly\nbbb refs/heads/main\n")
    assert versions.commit_of(tmp_path) == "bbb"
    (git / "refs/heads/main").write_text("ccc\n")
    assert versions.commit_of(tmp_path) == "ccc"
    further = tmp_path / "further"
    (git / "worktrees/further").mkdir(parents=True)
    further.mkdir()
    (further / ".git").write_text(f"gitdir: {git}/worktrees/further\n")
    (git / "worktrees/further/HEAD").write_text("ref: refs/heads/main\n")
    (git / "worktrees/further/commondir").write_text("../..\n")
    assert versions.commit_of(further) == "ccc"
    (git / "HEAD").write_text("ddd\n")
    assert versions.commit_of(tmp_path) == "ddd"


def test_a_configuration_of_another_version_has_the_defaults_of_this_one_and_loses_what_is_unknown(
    tmp_path: Path,
) -> None:
    path = tmp_path / "accounts.yaml"
    path.write_text("accounts: [{name: fx, broker: oanda, simulator: true, instruments: [EUR_USD]}]")
    given = load(path)
    assert pickle.loads(pickle.dumps(given)) == given  # noqa: S301 - our own bytes
    state = given.__getstate__()
    older = {name: value for name, value in state["__dict__"].items() if name != "alerts"}
    read_again = Configuration.__new__(Configuration)
    read_again.__setstate__({**state, "__dict__": older | {"unheard_of": 1}})
    assert read_again == given
    assert "unheard_of" not in vars(read_again)
    without = {name: value for name, value in state["__dict__"].items() if name != "accounts"}
    with pytest.raises(Unreadable, match="it has no accounts"):
        Configuration.__new__(Configuration).__setstate__({**state, "__dict__": without})


def test_across_versions_keeps_what_a_dataclass_is() -> None:
    @across_versions
    @dataclass(frozen=True, slots=True)
    class Said:
        one: int
        two: tuple[int, ...] = ()

    assert read(Said, [1]) == Said(1)
    assert read(Said, [1, (2,), 3]) == Said(1, (2,))
