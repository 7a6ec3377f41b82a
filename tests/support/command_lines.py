"""Whether a command line that a text shows is one that ``taskctx`` takes."""

from __future__ import annotations

import re
import shlex

import click

from taskctx_sql.cli import main

# What begins another command, or ends this one, in a shell.
_ENDS = {"|", ">", "<", "&&", ";", "2>"}


def in_backticks(text: str) -> list[str]:
    """The command lines of a text that are in backticks."""
    return [" ".join(line.split()) for line in re.findall(r"`(taskctx [^`]+)`", text)]


def refused(line: str, *, whole: bool) -> str | None:
    """Why a command line would be refused as wrong usage, or None. Without ``whole``, arguments may be left out."""
    words = shlex.split(line, comments=True)[1:]
    words = words[: next((index for index, word in enumerate(words) if word in _ENDS), len(words))]
    try:
        with click.Context(main, info_name="taskctx") as program:
            _, rest, _ = main.make_parser(program).parse_args(words)
            if not rest:
                return None
            name, command, rest = main.resolve_command(program, rest)
            assert command is not None
            # Not make_context(), which would ask whether files are there.
            with click.Context(command, info_name=name, parent=program) as context:
                given, left, _ = command.make_parser(context).parse_args(rest)
                if left:
                    return f"{line}: {left} is too much"
                for parameter in command.params:
                    _check(context, parameter, given.get(str(parameter.name)), whole=whole)
    except click.UsageError as error:
        return f"{line}: {error.format_message()}"
    return None


def _check(context: click.Context, parameter: click.Parameter, value: object, *, whole: bool) -> None:
    is_given = isinstance(value, str)
    if whole and parameter.required and not is_given:
        raise click.MissingParameter(ctx=context, param=parameter)
    if is_given and not isinstance(parameter.type, click.Path):
        parameter.type_cast_value(context, value)
