"""argparse with suggestions: a misspelt command or option is told with the nearest one that exists."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` whose errors suggest the nearest command or option.

    From Python 3.14 on argparse suggests commands by itself (`suggest_on_error`), but not options; here both are the
    same on all versions.
    """

    def command(self, commands: Any, name: str, **settings: Any) -> Parser:
        """A new parser among the `commands` that `add_subparsers` gave; `parse` finds it in what was parsed."""
        parser: Parser = commands.add_parser(name, **settings)
        parser.set_defaults(name=name, parser=parser)
        return parser

    def parse(self, args: Sequence[str]) -> argparse.Namespace:
        """The arguments parsed; an unknown one is an error of the command that it was given to."""
        parsed, unknown = self.parse_known_args(args)
        parser: Parser = getattr(parsed, "parser", self)
        if unknown:
            parser.unknown(unknown)
        if parser is self and self._subparsers is not None:
            self.error(f"a command is needed; {self.prog} --help lists all")
        return parsed

    def unknown(self, arguments: Sequence[str]) -> NoReturn:
        """End with an error about arguments that mean nothing to this command."""
        first = arguments[0]
        hint = nearest(first.partition("=")[0], self._option_string_actions) if first.startswith("-") else ""
        self.error(f"unrecognized arguments: {' '.join(arguments)}{hint or f'; {self.prog} --help lists all'}")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            listed = ", ".join(map(str, action.choices))
            raise argparse.ArgumentError(
                action, f"invalid choice: {value!r}; one of {listed} is needed{nearest(str(value), action.choices)}"
            )


def nearest(given: str, known: Iterable[Any]) -> str:
    """A suggestion to append to an error; empty where nothing is near."""
    near = difflib.get_close_matches(given.lower(), [str(name) for name in known], n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""
