"""The help of the whole command line: its commands in groups, in the order in which a person comes across them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typer.core import TyperGroup

if TYPE_CHECKING:
    from typer._click import Context, HelpFormatter

_GAP = 6
"""Columns that indentation and the space between a name and its text take."""


class GroupedCommands(TyperGroup):
    """Lists its commands under the name of the panel that each of them was given."""

    panels: tuple[str, ...] = ("Runs", "Resources", "Events", "Access", "Local stack", "This command")
    """The order of the panels; commands of any other stand at the end."""

    def format_commands(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Write a section for every panel that has commands."""
        panels: dict[str, list[tuple[str, str]]] = {panel: [] for panel in self.panels}
        column = max(map(len, self.commands), default=0)
        for name, command in self.commands.items():
            if not command.hidden:
                panel = getattr(command, "rich_help_panel", None) or "Commands"
                told = command.get_short_help_str(formatter.width - _GAP - column)
                panels.setdefault(panel, []).append((name.ljust(column), told))
        for panel, rows in panels.items():
            if rows:
                with formatter.section(panel):
                    formatter.write_dl(rows)
