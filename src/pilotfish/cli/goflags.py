"""What command lines of Go programs have and click has not: aliases of commands, and `--flag=false`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

_BOOLEANS = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}


class AliasedGroup(click.Group):
    """A group whose commands have further names, which its help tells beside the first."""

    def __init__(self, *arguments: Any, aliases: Mapping[str, tuple[str, ...]] | None = None, **options: Any) -> None:
        """`aliases`: name of a command → its other names."""
        super().__init__(*arguments, **options)
        self._names = {alias: name for name, others in (aliases or {}).items() for alias in others}

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, self._names.get(cmd_name, cmd_name))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands with what they do, each with its other names."""
        others: dict[str, list[str]] = {}
        for alias, name in self._names.items():
            others.setdefault(name, []).append(alias)
        found = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        called = {
            f"{name} ({', '.join(others[name])})" if name in others else name: command
            for name, command in found
            if command is not None and not command.hidden
        }
        room = formatter.width - 6 - max(map(len, called), default=0)
        rows = [(name, command.get_short_help_str(room)) for name, command in called.items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


class GoCommand(click.Command):
    """A command whose switches (`--x/--no-x`) are also taken as `--x=true` and `--x=false`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        switches = {
            name: (parameter.opts[0], parameter.secondary_opts[0])
            for parameter in self.params
            if isinstance(parameter, click.Option) and parameter.is_flag and parameter.secondary_opts
            for name in parameter.opts
        }
        plain: list[str] = []
        for position, word in enumerate(args):
            if word == "--":
                plain += args[position:]
                break
            name, equals, value = word.partition("=")
            if equals and name in switches and value.lower() in _BOOLEANS:
                word = switches[name][0 if _BOOLEANS[value.lower()] else 1]
            plain.append(word)
        return super().parse_args(ctx, plain)
