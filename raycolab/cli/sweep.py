"""The commands for a sweep: from `raycolab submit` and `results` to `cancel`, `retry` and `delete`."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import signal
import sys
from pathlib import Path
from typing import Any

import click

from raycolab.cli.common import data_dir_option, end_on_sigterm, json_option, print_results, say, show
from raycolab.errors import ClusterError, Detached, UsageError
from raycolab.files import check_writable, typed_path
from raycolab.text import visible

__all__ = [
    "cancel",
    "dashboard",
    "delete",
    "list_command",
    "logs",
    "pause",
    "report",
    "results",
    "resume",
    "retry",
    "stop",
    "submit",
]

_NOT_DONE = ("failed", "lost", "cancelled")
_SUFFIXES = (".csv", ".parquet", ".json")
_safe_csv_option = click.option(
    "--safe-csv", is_flag=True, help="In CSV, a text that a spreadsheet would compute begins with an apostrophe."
)


@click.command()
@click.argument("sweep_file")
@click.option("--output", metavar="FILE", help="Save the results here: .csv, .parquet or .json.")
@_safe_csv_option
@click.option("--no-wait", is_flag=True, help="Return as soon as the head has the sweep.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Replace a value of the sweep file.")
@click.option(
    "--main-changed",
    type=click.Choice(["keep", "rerun"]),
    help="MAIN or its files have changed: finished trials stay, or all run again.",
)
@json_option
@data_dir_option
def submit(
    sweep_file: str,
    output: str | None,
    safe_csv: bool,
    no_wait: bool,
    overrides: tuple[str, ...],
    main_changed: Any,
    as_json: bool,
    data_dir: str | None,
) -> int:
    """Run the sweep of SWEEP_FILE on the running head.

    A sweep of that name that exists goes on, and takes in what the file adds. Interrupting (Ctrl-C) only detaches:
    the sweep goes on, and the same command shows it again.

    \b
    Examples:
      raycolab submit sweep.yaml
      raycolab submit sweep.yaml --set jobs_per_pair=5 --output results.csv

    Exit codes: 0 every trial COMPLETE or PRUNED; 1 some FAILED, LOST or CANCELLED, or trials are held; 2 the file, MAIN
    or its space is wrong; 3 no head is running; 130 interrupted.
    """
    from raycolab.cluster import attach
    from raycolab.spec.file import load_sweep_file
    from raycolab.sweep import declare_spec

    end_on_sigterm()
    if output is not None:
        if Path(output).suffix.lower() not in _SUFFIXES:
            raise UsageError(f"--output {output}: give a file that ends in .csv, .parquet or .json.")
        check_writable(typed_path(output, "--output"), "--output")
    file = load_sweep_file(sweep_file, list(overrides))
    for note in file.notes:
        say(f"{file.spec.name}: {note}")
    sweep = declare_spec(file.spec, main=file.main_path, main_changed=main_changed, data_dir=data_dir, announce=say)
    sweep.start()
    if no_wait:
        if as_json:
            click.echo(json.dumps({"name": sweep.name, "database": sweep.database}))
        say(f"The head has the sweep {sweep.name!r}: `raycolab status` shows how far it is.")
        return 0
    try:
        status = sweep.wait_status()
    except Detached:
        say(_detached(sweep.name))
        raise
    results = sweep.results
    if output is not None:
        say(f"saved: {results.save(output, safe_csv=safe_csv)}")
    if as_json:
        click.echo(json.dumps({**status, "database": sweep.database}))
        say("\n".join([*results.closing_lines(), *results.failure_details()]))
    else:
        nodes: list[dict[str, Any]] = []
        with contextlib.suppress(ClusterError):  # the head was ended meanwhile; what it found is in the database
            nodes = attach(data_dir).nodes()
        print_results(sweep, nodes)
    return 1 if any(status[state] for state in _NOT_DONE) or status["pending"] else 0


@click.command()
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
@_safe_csv_option
@data_dir_option
def results(name: str, kind: str, best: bool, safe_csv: bool, data_dir: str | None) -> int:
    """Show the results of the sweep NAME.

    They come from the database: no cluster need run, and a sweep may be looked at while it does.

    \b
    Examples:
      raycolab results sample_experiment
      raycolab results sample_experiment --format csv > results.csv

    Exit codes: 0; 2 no such sweep, or with --best no finished trial yet.
    """
    from raycolab.sweep import find

    found = find(name, data_dir=data_dir).results
    if best:
        text = found.best_text()
        if text is None:
            raise UsageError(f"The sweep {name!r} has no finished trial with a metric yet: wait for one.")
        click.echo(text)
    elif kind == "table":
        from raycolab.view.tables import results_table

        show(results_table(found))
    else:
        text = found.as_text(kind, safe_csv=safe_csv)
        click.echo(visible(text) if sys.stdout.isatty() else text, nl=False)
    return 0


@click.command()
@click.argument("name")
@click.option("-o", "--output", metavar="FILE", help="Where to write it (default: NAME.html here).")
@data_dir_option
def report(name: str, output: str | None, data_dir: str | None) -> None:
    """Write the report about the sweep NAME, one HTML page.

    Best trials, importances, learning curves, what each node did, failures with their tracebacks, code and versions. No
    cluster need run, and a sweep may be looked at while it does.

    \b
    Example:
      raycolab report sample_experiment -o report.html

    Exit codes: 0; 2 no such sweep, or a file that cannot be written.
    """
    target = output or re.sub(r"[^\w.-]+", "_", name) + ".html"
    say(f"written: {_sweep(name, data_dir).results.report(target)}")


@click.command()
@click.argument("name")
@click.argument("number", type=click.IntRange(0))
@data_dir_option
def logs(name: str, number: int, data_dir: str | None) -> None:
    """Show what trial NUMBER of the sweep NAME printed last.

    \b
    Example:
      raycolab logs sample_experiment 12

    Exit codes: 0; 2 no such sweep or trial.
    """
    click.echo(visible(_sweep(name, data_dir).logs(number)), nl=False)


@click.command("list")
@json_option
@data_dir_option
def list_command(as_json: bool, data_dir: str | None) -> None:
    """List the sweeps of the database.

    No cluster need run.

    \b
    Example:
      raycolab list

    Exit code: 0.
    """
    from raycolab.spec.spec import SweepSpec
    from raycolab.sweep import list_sweeps
    from raycolab.text import tally_text, utc_text

    lines, objects = [], []
    for each in list_sweeps(data_dir=data_dir):
        counts = {state.value.lower(): count for state, count in each.counts.items()}
        counts = {"total": sum(counts.values()), **counts}
        declared_at, tags = utc_text(each.row.created_at), SweepSpec.from_json(each.row.spec).tags
        lines.append((each.row.name, each.row.state, tally_text(counts), f"{declared_at[:16]}Z", ", ".join(tags)))
        about = {"name": each.row.name, "state": each.row.state, "declared_at": declared_at, "tags": tags}
        objects.append(about | counts)
    if as_json:
        click.echo(json.dumps(objects))
    elif not lines:
        say("There is no sweep yet: `raycolab submit SWEEP.yaml` declares one.")
    else:
        from raycolab.view.tables import text_table

        show(text_table(("sweep", "state", "trials", "declared", "tags"), lines))


@click.command()
@click.option("--port", metavar="N", type=click.IntRange(0, 65535), default=0, help="Where to serve (default: any).")
@data_dir_option
def dashboard(port: int, data_dir: str | None) -> None:
    """Serve optuna-dashboard on all sweeps, here.

    A study for each pair, kept current while sweeps run; no cluster need run. On this machine alone, until Ctrl-C.

    \b
    Example:
      raycolab dashboard --port 8080

    Exit codes: 2 optuna-dashboard is missing; 3 the port is taken; 130 Ctrl-C.
    """
    from raycolab import sweep

    click.echo(sweep.dashboard(port=port, data_dir=data_dir))
    say("Open that address in a browser of this machine. Ctrl-C ends it.")
    while True:
        signal.pause()


def _verb(verb: str, what: str, said: str) -> click.Command:
    """The command that calls the method of this name of a sweep and says what comes of it, `{name}` and all."""

    @click.command(verb, help=f"{what}\n\n\b\nExample:\n  raycolab {verb} sample_experiment")
    @click.argument("name")
    @data_dir_option
    def command(name: str, data_dir: str | None) -> None:
        getattr(_sweep(name, data_dir), verb)()
        say(said.format(name=repr(name), typed=shlex.quote(name)))

    return command


pause = _verb(
    "pause",
    "Give out no new trials of the sweep NAME; running ones go on.",
    "The sweep {name} pauses once its running trials are done. `raycolab resume {typed}` goes on.",
)
resume = _verb(
    "resume",
    "Go on with the sweep NAME after a pause, or with what is held.",
    "The sweep {name} goes on: `raycolab status` shows how far it is.",
)
stop = _verb(
    "stop",
    "End the sweep NAME once its running trials are done.",
    "The sweep {name} ends once its running trials are done: `raycolab results {typed}`.",
)
cancel = _verb(
    "cancel",
    "End the sweep NAME now, its running trials too.",
    "The sweep {name} is cancelled; what it finished stays: `raycolab results {typed}`.",
)
delete = _verb(
    "delete",
    "Delete the sweep NAME and its trials. It must be at rest.",
    "The sweep {name} and its trials are deleted.",
)


@click.command()
@click.argument("name")
@click.option("--failed", "which", flag_value="failed", help="Only FAILED trials.")
@click.option("--lost", "which", flag_value="lost", help="Only LOST trials.")
@data_dir_option
def retry(name: str, which: str | None, data_dir: str | None) -> None:
    """Queue the FAILED, LOST and CANCELLED trials of NAME again.

    They keep their numbers and configurations, and run at once.

    \b
    Examples:
      raycolab retry sample_experiment
      raycolab retry sample_experiment --lost
    """
    _sweep(name, data_dir).retry(which)
    kinds = "FAILED, LOST and CANCELLED" if which is None else which.upper()
    say(f"The {kinds} trials of the sweep {name!r} are queued again: `raycolab status` shows how far it is.")


def _sweep(name: str, data_dir: str | None) -> Any:
    from raycolab.sweep import find

    return find(name, data_dir=data_dir)


def _detached(name: str) -> str:
    """What goes on after Ctrl-C, and how to come back: by what was typed."""
    return (
        f"Detached: the sweep {name!r} goes on. `raycolab {shlex.join(sys.argv[1:])}` shows it again, `raycolab status`"
        f" shows it once, `raycolab cancel {shlex.quote(name)}` ends it."
    )
