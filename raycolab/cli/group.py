"""A group of commands that are listed under headings, and that teach: see `raycolab --help`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import click

__all__ = ["GroupedCommands"]


class GroupedCommands(click.Group):
    """The commands of a program under headings, in the order they are needed."""

    def __init__(self, sections: Mapping[str, Sequence[click.Command]], **options: object) -> None:
        super().__init__(**options)  # type: ignore[arg-type]  # click's own
        self._sections = {
            heading: [str(command.name) for command in commands] for heading, commands in sections.items()
        }
        for commands in sections.values():
            for command in commands:
                self.add_command(command)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the headings, which is that of use; click's is that of the alphabet."""
        return [name for names in self._sections.values() for name in names]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a list for each heading; called by click."""
        room = formatter.width - 6 - max(map(len, self.commands))
        for heading, names in self._sections.items():
            with formatter.section(heading):
                formatter.write_dl([(name, self.commands[name].get_short_help_str(room)) for name in names])
