"""The commands that need no cluster: `raycolab demo doctor init`."""

from __future__ import annotations

import json
import shlex
import sys
import tempfile
from typing import TYPE_CHECKING

import click

from raycolab.cli.common import data_dir_option, end_on_sigterm, json_option, print_results, say, show

if TYPE_CHECKING:
    from raycolab.diagnostics import Diagnosis

__all__ = ["demo", "doctor", "init"]

_STYLES = {"GOOD": "green", "NOTE": "yellow", "BAD": "bold red"}


@click.command()
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
@json_option
@click.option("--data-dir", metavar="DIR", help="Keep identity and database here (default: a new folder in /tmp).")
def demo(joiners: int, jobs_per_pair: int, as_json: bool, data_dir: str | None) -> int:
    """Run the example's sweep on a cluster on this machine.

    A head and joiners of one CPU each, in sessions that share no network, with a fresh data directory unless one is
    named. Everything it starts ends with it.

    \b
    Example:
      raycolab demo --joiners 5 --jobs-per-pair 60

    Exit codes: 0 every trial COMPLETE; 1 some are not; 2 scikit-learn is missing; 3 a node did not come up; 130
    interrupted.
    """
    from raycolab.demo import run_demo
    from raycolab.node.data_dir import DataDir

    end_on_sigterm()  # which ends what the demo started
    folder = DataDir(data_dir or tempfile.mkdtemp(prefix="raycolab-demo-"))
    try:
        done = run_demo(folder, joiners=joiners, jobs_per_pair=jobs_per_pair, say=say)
    except KeyboardInterrupt:
        say(f"Interrupted: what the demo started has ended. What it finished is in {folder.database_path}.")
        raise
    results = done.sweep.results
    counts = results.counts()
    failed = counts["failed"] + counts["lost"]
    if as_json:
        names = [node["name"] for node in done.nodes]
        nodes = {node: sum(row.node == node for row in results.rows if row.attempts) for node in names}
        summary = {"trials": len(results), "complete": counts["complete"], "failed": failed, "nodes": nodes}
        click.echo(json.dumps({**summary, "seconds": round(done.seconds, 2), "database": done.sweep.database}))
        say("\n".join(results.closing_lines()))
    else:
        print_results(done.sweep, done.nodes)
        typed = f"raycolab report {done.sweep.name} --data-dir {shlex.quote(str(folder.path))}"
        click.echo(f"A page about it, with pictures: {typed}")
        if done.note:
            click.echo(done.note)
    return 1 if failed or counts["complete"] < len(results) else 0


@click.command()
@click.argument("folder", metavar="DIR")
def init(folder: str) -> None:
    """Write the three notebooks and a sweep file to DIR.

    head.ipynb and joiner.ipynb make the cluster; MAIN.ipynb, the experiment, and sweep.yaml are there to be edited. No
    file is overwritten.

    \b
    Example:
      raycolab init my-sweep

    Exit codes: 0; 2 one of the files is there already, or DIR cannot be written to.
    """
    from raycolab.examples import next_steps, write_examples

    written = write_examples(folder)
    click.echo("\n".join(str(path) for path in written))
    say(next_steps(written[0].parent))


@click.command()
@click.argument("address", required=False)
@json_option
@data_dir_option
def doctor(address: str | None, as_json: bool, data_dir: str | None) -> int:
    """Look for what would fail later, and say what to do.

    Packages, ports, memory, open files, disks, the data directory, ngrok's token and agent; on Colab also Drive. With a
    join address (ADDRESS, or @FILE) whether a joiner would be let in from here, without joining: network, certificate,
    secret and versions. Nothing is started or changed.

    A check passes (✓), is worth knowing (!), or names what will fail (✗) and the cure.

    \b
    Examples:
      raycolab doctor
      raycolab doctor @address --json

    Exit codes: 0 nothing will fail; 1 something will; 2 a damaged address.
    """
    from raycolab import diagnostics

    diagnosis = diagnostics.doctor(address, data_dir=data_dir)
    if as_json:
        click.echo(json.dumps(diagnosis.to_json()))
    else:
        _print(diagnosis)
    return 0 if diagnosis.ok else 1


def _print(diagnosis: Diagnosis) -> None:
    """A table on a terminal, a line for each check elsewhere."""
    from rich.table import Table

    from raycolab.view.tables import plain

    if not sys.stdout.isatty():
        click.echo(repr(diagnosis))
        return
    table = Table.grid(padding=(0, 1))
    table.add_column()
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")  # the address of a page stays whole, if on two lines
    for check in diagnosis.checks:
        style = _STYLES[check.verdict.name]
        table.add_row(plain(check.verdict.value, style), plain(check.name), plain(check.message))
    show(table, plain(diagnosis.summary, "bold"))
