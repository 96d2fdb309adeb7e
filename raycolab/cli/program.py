"""The program `raycolab`: its commands, and how each ends. Nobody sees a traceback: a bug's is kept in a file.

Exit codes: 0 done, 1 some trial FAILED, LOST or CANCELLED (or `doctor` found something, or a bug), 2 what was typed or
written is wrong, 3 the cluster cannot be reached or used, 130 interrupted.
"""

from __future__ import annotations

import contextlib
import errno
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

import click

from raycolab.cli.cluster import down, env, head, join, status
from raycolab.cli.common import say
from raycolab.cli.local import demo, doctor, init
from raycolab.cli.sweep import (
    cancel,
    dashboard,
    delete,
    list_command,
    logs,
    pause,
    report,
    results,
    resume,
    retry,
    stop,
    submit,
)
from raycolab.errors import RaycolabError
from raycolab.files import crash_report, discard, escape_unencodable

__all__ = ["cli", "main", "run"]

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}  # what stdout may say; a closed pipe is click's


class GroupedCommands(click.Group):
    """The commands of a program under headings, in the order in which they are needed."""

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


cli = GroupedCommands(
    {
        "Commands here, on one machine": (demo, init, doctor),
        "Commands for a cluster": (head, join, status, env, down),
        "Commands for a sweep": (
            submit,
            results,
            report,
            logs,
            list_command,
            dashboard,
            pause,
            resume,
            stop,
            cancel,
            retry,
            delete,
        ),
    },
    name="raycolab",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""A handful of notebook tabs become one Ray cluster and run a hyperparameter sweep on it.

\b
To see it work on this machine:
  raycolab demo
To run your own MAIN.ipynb on several machines:
  raycolab init .                        three notebooks and a sweep file, to edit
  raycolab head                          prints the join address, and stays
  raycolab join 'THE JOIN ADDRESS'       on each other machine
  raycolab submit sweep.yaml             beside the head; shows the sweep
  raycolab results sample_experiment     now or later

`raycolab COMMAND --help` says more of each, with an example.""",
    epilog="""Exit codes: 0 done; 1 some trial FAILED, LOST, CANCELLED or is held, or `doctor` found something; 2 what
was typed or written is wrong; 3 the cluster cannot be reached or used; 130 interrupted.

\b
To have bash complete commands and options (zsh, fish: their names for bash):
  eval "$(_RAYCOLAB_COMPLETE=bash_source raycolab)"
""",
)
click.version_option(package_name="raycolab")(cli)


def main() -> NoReturn:
    """Run the command line and end the process with the contract's exit code."""
    escape_unencodable()
    sys.exit(run(cli, sys.argv[1:]))


def run(command: click.Command, arguments: list[str]) -> int:
    """Run a command and give its exit code; whatever it raises becomes a sentence."""
    try:
        code = command.main(arguments, prog_name="raycolab", standalone_mode=False)
    except RaycolabError as error:
        say(str(error))
        return error.exit_code
    except click.exceptions.Abort:  # what click makes of a KeyboardInterrupt
        return 130
    except click.ClickException as error:
        with contextlib.suppress(OSError):
            error.show()
        return 2
    except Exception as error:
        return _unexpected(error)
    return code if isinstance(code, int) else 0


def _unexpected(error: Exception) -> int:
    """Say what no command prepares for: a stdout that is full, a file that cannot be used, else a bug."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        say(f"{error.filename} cannot be used ({error.strerror}): mend that, then try again.")
    elif isinstance(error, OSError) and error.errno in _FULL:
        discard(sys.stdout)
        say(f"The output could not be written ({error.strerror}): make room for it, or send it elsewhere.")
    else:
        say(crash_report(error))
    return 1
