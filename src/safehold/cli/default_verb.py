"""A group of which one command may be called without its name: ``backup FOLDER`` is ``backup to FOLDER``."""

from __future__ import annotations

from typing import Any

import click

__all__ = ["DefaultGroup"]


class DefaultGroup(click.Group):
    """``default`` is the command that is meant where the first word names none."""

    def __init__(self, *arguments: Any, default: str = "", **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.default = default

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the default in front where no command is named."""
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = [self.default, *args]
        return super().parse_args(ctx, args)
