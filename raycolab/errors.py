"""Every error a user of raycolab meets, and the exit code each one means on the command line.

The text of an error is one clear sentence for the person who reads it: what happened, whose turn it is, what to do.
Errors of the tunnel itself are in `tunnel.errors`; raycolab translates the ones a user can act on into these.

    RaycolabError                  1
    ├── CellError                      a cell of the notebook that run_main runs failed (in raycolab.main.kernel)
    ├── DamagedRowError                a row of the database cannot be read (in raycolab.store)
    ├── UsageError                 2   what was typed or written is wrong; nothing was reached yet
    │   ├── MainError                  MAIN is missing, unreadable or has no usable `compute`
    │   ├── SpaceError                 a search space is malformed or does not fit `compute`
    │   ├── SweepFileError             a sweep file's key or value is wrong
    │   ├── SweepChangedError          the declared sweep contradicts the stored one of that name
    │   ├── UnknownSweepError          no sweep of that name
    │   └── UnknownNodeError           no node of that name
    └── ClusterError               3   the cluster could not be reached or used
        ├── NoHeadError                no head is running for this data directory
        ├── JoinError                  the head refused this joiner, or its address is wrong
        ├── PortTakenError             a port that is needed is in use
        ├── ClaimLostError             another head runs the sweep now (in raycolab.store)
        └── StoreOutageError           the database cannot be written now (in raycolab.store); nothing is lost

    Detached (a KeyboardInterrupt)   130   a person stopped watching; what was watched goes on
"""

from __future__ import annotations

__all__ = [
    "ClusterError",
    "Detached",
    "JoinError",
    "MainError",
    "NoHeadError",
    "PortTakenError",
    "RaycolabError",
    "SpaceError",
    "SweepChangedError",
    "SweepFileError",
    "UnknownNodeError",
    "UnknownSweepError",
    "UsageError",
]


class RaycolabError(Exception):
    """Base of every error raised for a user; `exit_code` is what the command line ends with."""

    exit_code = 1

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows (IPython asks for it): the sentence, without the way it took through our code."""
        return [f"\x1b[31m{type(self).__name__}\x1b[0m: {self}"]

    def _repr_html_(self) -> str:
        from raycolab.view.pages import render  # errors are cheap to import, and rarely looked at

        return render("error.html.j2", name=type(self).__name__, sentence=str(self))


class UsageError(RaycolabError):
    """What was typed or written is wrong; checked before anything is reached."""

    exit_code = 2


class MainError(UsageError):
    """MAIN is missing, is not a notebook, or has no `compute` that can be called."""


class SpaceError(UsageError):
    """A search space is malformed, or does not fit the arguments of `compute`."""


class SweepFileError(UsageError):
    """A sweep file has an unknown key or a value that cannot be used."""


class SweepChangedError(UsageError):
    """A sweep of this name exists and the new declaration contradicts it."""


class UnknownSweepError(UsageError):
    """No sweep of this name is in the database."""


class UnknownNodeError(UsageError):
    """No node of this name is in the cluster."""


class ClusterError(RaycolabError):
    """The cluster could not be reached or used."""

    exit_code = 3


class NoHeadError(ClusterError):
    """No head is running for this data directory."""


class JoinError(ClusterError):
    """The head refused this joiner: wrong secret, wrong certificate, other versions, no room."""


class PortTakenError(ClusterError):
    """A port that is needed is in use by another program."""


class Detached(KeyboardInterrupt):
    """Stop or Ctrl-C ended the watching, and nothing else; the text says what goes on and how to watch it again."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]
