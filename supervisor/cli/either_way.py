"""Accepts the configuration both as ``-c CONFIG`` and as an argument, whichever a command declares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperGroup

_NAME = "config"
_OPTIONS = ("-c", "--config")
_ENDINGS = (".yaml", ".yml")


class EitherWay(TyperGroup):
    """A group whose commands accept their configuration both ways, and before their own name too."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the group's own options; a configuration among them belongs to the command."""
        return super().parse_args(ctx, _behind_the_command(args))

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[Any, Any, list[str]]:
        """The command, and its arguments in the form that it declares."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command, either_way(command, rest) if command is not None else rest


def _behind_the_command(args: Sequence[str]) -> list[str]:
    """Turns ``-c CONFIG audit tail`` into ``audit -c CONFIG tail``; the group ``audit`` passes it on in turn."""
    before: list[str] = []
    named: list[str] = []
    rest = list(args)
    while rest and rest[0].startswith("-"):
        one = rest.pop(0)
        option, given, _ = one.partition("=")
        if option in _OPTIONS and (given or rest):
            named += [one] if given else [one, rest.pop(0)]
        else:
            before.append(one)
    return [*before, *rest[:1], *named, *rest[1:]] if rest else list(args)


def either_way(command: Any, args: Sequence[str]) -> list[str]:
    """The arguments of a command, with its configuration where the command expects it. Raises ``typer.BadParameter``
    where it is given twice."""
    kinds = {one.name: one.param_type_name for one in getattr(command, "params", ())}
    if _NAME not in kinds:
        return list(args)
    values = {name for one in command.params if not getattr(one, "is_flag", True) for name in one.opts}
    named, files, others = [], [], []
    rest = list(args)
    while rest:
        one = rest.pop(0)
        option, given, value = one.partition("=")
        if one == "--":
            others += [one, *rest]
            break
        if option in _OPTIONS and (given or rest):
            named.append(value if given else rest.pop(0))
        elif one in values and rest:
            others += [one, rest.pop(0)]
        elif not one.startswith("-") and one.endswith(_ENDINGS):
            files.append(one)
        else:
            others.append(one)
    if kinds[_NAME] == "argument":
        if not named:
            return list(args)
        if files:
            raise typer.BadParameter(f"the configuration is given twice: {files[0]} and {_OPTIONS[0]} {named[0]}")
        return [named[-1], *others]
    if len(files) > 1 or (files and named):
        raise typer.BadParameter(f"the configuration is given twice: {' and '.join([*named, *files])}")
    return [_OPTIONS[1], files[0], *others] if files else list(args)
