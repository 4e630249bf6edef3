"""What a failed command prints and returns."""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

import typer
from typer.core import TyperGroup

from sjg.cli._messages import shown_messages
from sjg.core import CheckpointError, DeviceError, InputError

RUN_FAILED = 1
BAD_INPUT = 2
#: errors that another call mends: exit code 2
_USER_ERRORS = (InputError, DeviceError, CheckpointError)
# typer raises these through its own copy of click or an installed one, so the class is taken from where it surely is
_ClickException: type[Exception] = typer.BadParameter.__mro__[2]


class OneLineErrors(TyperGroup):
    """A group of commands that says what went wrong in one line on standard error.

    Exit codes: 0 done, 1 the run failed, 2 bad usage or input, 130 interrupted. ``--debug`` after the command's name shows the traceback.
    """

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command and exit with its code."""
        words = list(sys.argv[1:] if args is None else args)
        try:
            with shown_messages(debug="--debug" in words):
                code = super().main(words, prog_name, complete_var, standalone_mode=False, windows_expand_args=windows_expand_args, **extra)
        except Exception as error:  # noqa: BLE001 - the end of the road: every failure becomes a line and an exit code
            if "--debug" in words and not isinstance(error, _ClickException):
                traceback.print_exc()
            code = _report(error, _options_of(self, words))
        code = code if isinstance(code, int) else 0
        if standalone_mode:
            sys.exit(code)
        return code


def _options_of(group: Any, words: Sequence[str]) -> dict[str, str]:
    """Name of each argument of the command that was called, and how it is spelled as an option."""
    command = group
    for word in words:
        command = getattr(command, "commands", {}).get(word, command)
    return {one.name: one.opts[0] for one in getattr(command, "params", []) if one.name and one.opts[0].startswith("--")}


def as_options(text: str, options: Mapping[str, str]) -> str:
    """A message that speaks of arguments, in the words of the command line.

    Examples
    --------
    >>> from sjg.cli._errors import as_options
    >>> as_options(
    ...     "points_key='spots' is not there; pass overwrite=True or points_key=.",
    ...     {"points_key": "--points-key", "overwrite": "--overwrite"},
    ... )
    "--points-key 'spots' is not there; pass --overwrite or --points-key."
    >>> as_options("give another folder, or set resume=False.", {"resume": "--resume"})
    'give another folder, or leave out --resume.'
    """
    for name, option in options.items():
        text = re.sub(rf"\bwith {name}=False\b", f"without {option}", text)
        text = re.sub(rf"\b(set )?{name}=False\b", f"leave out {option}", text)
        text = re.sub(rf"\b{name}=True\b", option, text)
        text = re.sub(rf"\b{name}=(?=['\"\w\[(-])", f"{option} ", text)
        # a word without an underscore may be no argument
        text = re.sub(rf"\b{name}{'=?' if '_' in name else '='}(?!\w)", option, text)
    return text


def _report(error: Exception, options: Mapping[str, str]) -> int:
    if isinstance(error, typer.Abort):
        typer.echo("sjg: interrupted", err=True)
        return 130
    if isinstance(error, _ClickException):
        text = error.format_message() if hasattr(error, "format_message") else str(error)
        command = getattr(getattr(error, "ctx", None), "command_path", "sjg")
        typer.echo(f"sjg: {_one_line(text)} See '{command} --help'.", err=True)
        return BAD_INPUT
    if isinstance(error, _USER_ERRORS):
        typer.echo(f"sjg: {_one_line(as_options(str(error), options))}", err=True)
        return BAD_INPUT
    typer.echo(f"sjg: the run failed: {type(error).__name__}: {_one_line(str(error))} (--debug shows where)", err=True)
    return RUN_FAILED


def _one_line(text: str) -> str:
    return " ".join(text.split())
