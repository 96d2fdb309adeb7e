"""The command line: `raycolab demo head join submit status results pause resume stop cancel retry delete down`.

Each command is a thin client of the same functions a notebook calls. With `--json` stdout carries only JSON and the
rest goes to stderr. Exit codes: 0 done, 1 some trial FAILED, LOST or CANCELLED, 2 what was typed or written is wrong,
3 the cluster cannot be reached or used, 130 interrupted.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any, NoReturn

import click

from raycolab import streams
from raycolab.errors import ClusterError, Detached, RaycolabError, UsageError
from raycolab.typed_paths import check_writable, typed_path

__all__ = ["main"]

_NOT_DONE = ("failed", "lost", "cancelled")
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}  # what stdout may say; a closed pipe is click's
_SUFFIXES = (".csv", ".parquet", ".json")


def main() -> NoReturn:
    """Run the command line and end the process with the contract's exit code."""
    streams.spell_everything()
    try:
        code = cli.main(prog_name="raycolab", standalone_mode=False)
    except RaycolabError as error:
        _say(str(error))
        code = error.exit_code
    except click.exceptions.Abort:
        code = 130
    except click.ClickException as error:
        with contextlib.suppress(OSError):
            error.show()
        code = 2
    except OSError as error:
        if error.errno not in _FULL:
            raise
        streams.give_up(sys.stdout)
        _say(f"The output could not be written ({error.strerror}): make room for it, or send it elsewhere.")
        code = 1
    sys.exit(code if isinstance(code, int) else 0)


def _data_dir_option(command: Any) -> Any:
    return click.option(
        "--data-dir",
        metavar="DIR",
        help="The head's directory, with its identity and the database (default: RAYCOLAB_DATA_DIR, or ~/.raycolab).",
    )(command)


def _json_option(command: Any) -> Any:
    return click.option("--json", "as_json", is_flag=True, help="Only JSON on stdout.")(command)


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done; 1 some trial FAILED, LOST, CANCELLED or is held; 2 what was typed or written is wrong; "
    "3 the cluster cannot be reached or used; 130 interrupted.",
)
@click.version_option(package_name="raycolab")
def cli() -> None:
    """A handful of notebook tabs become one Ray cluster and run a hyperparameter sweep on it."""


@cli.command()
@click.option(
    "--joiners", metavar="N", type=click.IntRange(0, 20), default=2, show_default=True, help="Joiners beside the head."
)
@click.option(
    "--jobs-per-pair",
    metavar="N",
    type=click.IntRange(1),
    default=5,
    show_default=True,
    help="Trials per pair of a model and a dataset.",
)
@_json_option
@click.option("--data-dir", metavar="DIR", help="Keep identity and database here (default: a new folder in /tmp).")
def demo(joiners: int, jobs_per_pair: int, as_json: bool, data_dir: str | None) -> int:
    """Run the example's sweep on a cluster on this machine.

    A head and joiners of one CPU each, in sessions that share no network, with a fresh data directory unless one is
    named.
    """
    from raycolab.demo import run_demo
    from raycolab.node.data_dir import DataDir

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # and so end what was started
    folder = DataDir(data_dir or tempfile.mkdtemp(prefix="raycolab-demo-"))
    done = run_demo(folder, joiners=joiners, jobs_per_pair=jobs_per_pair, say=_say)
    results = done.sweep.results
    counts = results.counts()
    failed = counts["failed"] + counts["lost"]
    if as_json:
        nodes = {node: sum(row.node == node for row in results.rows if row.attempts) for node in done.nodes}
        summary = {"trials": len(results), "complete": counts["complete"], "failed": failed, "nodes": nodes}
        click.echo(json.dumps({**summary, "seconds": round(done.seconds, 2), "database": done.sweep.database}))
        _say("\n".join(results.closing_lines()))
    else:
        _print_results(done.sweep, nodes=len(done.nodes), head_slots=1)
        if done.note:
            click.echo(done.note)
    return 1 if failed or counts["complete"] < len(results) else 0


@cli.command()
@click.option(
    "--provider",
    type=click.Choice(["auto", "ngrok", "direct", "unix"]),
    default="auto",
    show_default=True,
    help="How joiners reach this machine; auto is ngrok where NGROK_AUTHTOKEN is set, else direct.",
)
@click.option("--listen", metavar="HOST:PORT|PATH", help="Where joiners are accepted.")
@click.option("--url", metavar="URL", help="What joiners dial, when it differs from --listen.")
@click.option("--num-cpus", metavar="N", type=click.IntRange(1, 256), help="CPUs for trials (default: all).")
@click.option("--join-address-file", metavar="FILE", help="Write the join address here once joiners can come.")
@click.option("--new-address", is_flag=True, help="Make earlier join addresses worthless.")
@_json_option
@_data_dir_option
def head(
    provider: str,
    listen: str | None,
    url: str | None,
    num_cpus: int | None,
    join_address_file: str | None,
    new_address: bool,
    as_json: bool,
    data_dir: str | None,
) -> None:
    """Be the head and print the join address.

    Stays in the foreground until it is interrupted or `raycolab down` ends it.
    """
    from raycolab.cluster import check_capacity
    from raycolab.node.data_dir import DataDir
    from raycolab.providers import choose_provider

    cpus, gpus = check_capacity(num_cpus, None)
    # For what it refuses: the supervisor makes its own.
    choose_provider(
        provider, listen=listen, url=url, environ=os.environ, remembered={}, run_dir=Path(tempfile.gettempdir())
    )
    if join_address_file is not None:
        file = typed_path(join_address_file, "--join-address-file")
        check_writable(file, "--join-address-file")
        join_address_file = str(file.absolute())
    options = {
        "provider": provider,
        "listen": listen,
        "url": url,
        "num_cpus": cpus,
        "num_gpus": gpus,
        "join_address_file": join_address_file,
        "new_address": new_address,
    }
    _become_supervisor("head", str(DataDir.chosen(data_dir, os.environ).path), options, as_json)


@cli.command()
@click.argument("address", required=False)
@click.option("--name", metavar="NAME", help="What this node is called (default: joiner-1, joiner-2, ...).")
@click.option("--num-cpus", metavar="N", type=click.IntRange(1, 256), help="CPUs for trials (default: all).")
@click.option("--num-gpus", metavar="N", type=click.IntRange(0, 64), help="GPUs for trials (default: all).")
@click.option(
    "--give-up",
    metavar="S",
    type=click.FloatRange(0),
    default=1800.0,
    show_default=True,
    help="Seconds without a head after which to end.",
)
@_json_option
@_data_dir_option
def join(
    address: str | None,
    name: str | None,
    num_cpus: int | None,
    num_gpus: int | None,
    give_up: float,
    as_json: bool,
    data_dir: str | None,
) -> None:
    """Join this machine to a head, until the head ends it.

    ADDRESS is the line that the head printed, or @FILE for a file that holds it. Without one the environment variable
    RAYCOLAB_JOIN_ADDRESS is read.
    """
    from raycolab.cluster import check_capacity, check_name, read_address
    from raycolab.node.data_dir import DataDir
    from raycolab.node.launch import ADDRESS_VARIABLE

    text = os.environ.get(ADDRESS_VARIABLE, "") if address is None else address
    os.environ[ADDRESS_VARIABLE] = read_address(text).text
    check_name(name)
    if math.isnan(give_up):
        raise UsageError("--give-up nan: give a number of seconds; inf is for ever.")
    cpus, gpus = check_capacity(num_cpus, num_gpus)
    options = {"name": name, "num_cpus": cpus, "num_gpus": gpus, "give_up_s": give_up}
    _become_supervisor("joiner", str(DataDir.chosen(data_dir, os.environ).path), options, as_json)


@cli.command()
@click.argument("sweep_file")
@click.option("--output", metavar="FILE", help="Save the results here: .csv, .parquet or .json.")
@click.option("--no-wait", is_flag=True, help="Return as soon as the head has the sweep.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Replace a value of the sweep file.")
@_json_option
@_data_dir_option
def submit(
    sweep_file: str, output: str | None, no_wait: bool, overrides: tuple[str, ...], as_json: bool, data_dir: str | None
) -> int:
    """Run the sweep of SWEEP_FILE on the running head.

    A sweep of that name that exists goes on, and takes in what the file adds. Interrupting only detaches.
    """
    from raycolab.cluster import attach
    from raycolab.declaration.file import load_sweep_file
    from raycolab.sweep import declare_spec

    if output is not None:
        if Path(output).suffix.lower() not in _SUFFIXES:
            raise UsageError(f"--output {output}: give a file that ends in .csv, .parquet or .json.")
        check_writable(typed_path(output, "--output"), "--output")
    file = load_sweep_file(sweep_file, list(overrides))
    sweep = declare_spec(file.spec, main=file.main_path, data_dir=data_dir, announce=_say, to_run=True)
    sweep.start()
    if no_wait:
        if as_json:
            click.echo(json.dumps({"name": sweep.name, "database": sweep.database}))
        _say(f"The head has the sweep {sweep.name!r}: `raycolab status` shows how far it is.")
        return 0
    try:
        status = sweep.wait_status()
    except Detached as stopped:
        _say(str(stopped))
        raise
    results = sweep.results
    if output is not None:
        _say(f"saved: {results.save(output)}")
    if as_json:
        click.echo(json.dumps({**status, "database": sweep.database}))
        _say("\n".join(results.closing_lines()))
    else:
        nodes: list[dict[str, Any]] = []
        with contextlib.suppress(ClusterError):  # the head was ended meanwhile; what it found is in the database
            nodes = attach(data_dir).nodes()
        _print_results(sweep, nodes=len(nodes), head_slots=nodes[0]["cpus"] if nodes else 0)
    return 1 if any(status[state] for state in _NOT_DONE) or status["pending"] else 0


@cli.command()
@_json_option
@_data_dir_option
def status(as_json: bool, data_dir: str | None) -> None:
    """Show the nodes and the sweeps of the running cluster."""
    from rich.console import Console

    from raycolab.cluster import attach
    from raycolab.display.tables import nodes_table, sweeps_table, traffic_lines

    seen = attach(data_dir).status()
    if as_json:
        click.echo(json.dumps(seen))
        return
    console = Console()
    console.print(nodes_table(seen["nodes"]), soft_wrap=True)
    if seen["sweeps"]:
        console.print()
        console.print(sweeps_table(seen["sweeps"]), soft_wrap=True)
    console.print()
    for line in traffic_lines(seen["traffic"]):
        console.print(line, soft_wrap=True, markup=False, highlight=False)


@cli.command()
@click.argument("name")
@click.option(
    "--format",
    "kind",
    type=click.Choice(["table", "csv", "json"]),
    default="table",
    show_default=True,
    help="A table of the best, or a row for each trial.",
)
@click.option("--best", is_flag=True, help="Only the best trial, as JSON.")
@_data_dir_option
def results(name: str, kind: str, best: bool, data_dir: str | None) -> int:
    """Show the results of the sweep NAME.

    They come from the database: no cluster need run.
    """
    from raycolab.sweep import find

    found = find(name, data_dir=data_dir).results
    if best:
        text = found.best_text()
        if text is None:
            raise UsageError(f"The sweep {name!r} has no finished trial with a metric yet: wait for one.")
        click.echo(text)
    elif kind == "table":
        from rich.console import Console

        from raycolab.display.tables import results_table

        Console().print(results_table(found), soft_wrap=True)
    else:
        click.echo(found.as_text(kind), nl=False)
    return 0


def _verb(verb: str, what: str) -> None:
    """Add the command that calls the method of this name of a sweep."""

    @cli.command(verb, help=what)
    @click.argument("name")
    @_data_dir_option
    def command(name: str, data_dir: str | None) -> None:
        getattr(_sweep(name, data_dir), verb)()


_verb("pause", "Give out no new trials of the sweep NAME; running ones go on.")
_verb("resume", "Go on with the sweep NAME after a pause, or with what is held.")
_verb("stop", "End the sweep NAME once its running trials are done.")
_verb("cancel", "End the sweep NAME now, its running trials too.")
_verb("delete", "Delete the sweep NAME and its trials. It must be at rest.")


@cli.command()
@click.argument("name")
@click.option("--failed", "which", flag_value="failed", help="Only FAILED trials.")
@click.option("--lost", "which", flag_value="lost", help="Only LOST trials.")
@_data_dir_option
def retry(name: str, which: str | None, data_dir: str | None) -> None:
    """Queue the FAILED and LOST trials of the sweep NAME again."""
    _sweep(name, data_dir).retry(which)


@cli.command()
@_data_dir_option
def down(data_dir: str | None) -> None:
    """End the cluster: every joiner, the head, Ray. The database stays."""
    from raycolab.cluster import attach

    attach(data_dir).shutdown()


def _sweep(name: str, data_dir: str | None) -> Any:
    from raycolab.sweep import find

    return find(name, data_dir=data_dir)


def _become_supervisor(role: str, data_dir: str, options: dict[str, Any], as_json: bool) -> NoReturn:
    """Turn this process into the guard of a supervisor, which carries everything else out."""
    from raycolab.node.launch import Task, prepare

    streams.open_closed_streams()
    _, command = prepare(Task(role, data_dir, options, "json" if as_json else "text"))
    os.execv(command[0], command)


def _print_results(sweep: Any, *, nodes: int, head_slots: int) -> None:
    """The table, what the cluster was worth, and where the database lies."""
    from rich.console import Console

    from raycolab.display.tables import results_table

    console = Console()
    console.print(results_table(sweep.results), soft_wrap=True)
    worth = sweep.worth(nodes=nodes, head_slots=head_slots) if nodes else ""
    if worth:
        console.print(worth, markup=False, highlight=False, soft_wrap=True)
    console.print(f"database: {sweep.database}", markup=False, highlight=False, soft_wrap=True)


def _say(text: str) -> None:
    streams.write_line(sys.stderr, text)
