"""The commands for a cluster: `raycolab head join status env down`."""

from __future__ import annotations

import json
import math
import os
import shlex
import tempfile
from pathlib import Path
from typing import Any, Literal, NoReturn

import click

from raycolab.cli.common import data_dir_option, json_option, say, show
from raycolab.errors import UsageError
from raycolab.files import check_writable, open_closed_streams, typed_path

__all__ = ["down", "env", "head", "join", "status"]


@click.command()
@click.option(
    "--provider",
    type=click.Choice(["auto", "ngrok", "direct", "unix"]),
    default="auto",
    show_default=True,
    help="How joiners reach this machine; auto is ngrok where NGROK_AUTHTOKEN is set, else direct.",
)
@click.option(
    "--listen",
    metavar="HOST:PORT|PATH",
    help="Where joiners are accepted (default for direct: an address of this machine in its network).",
)
@click.option("--url", metavar="URL", help="What joiners dial, when it differs from --listen.")
@click.option("--num-cpus", metavar="N", type=click.IntRange(1, 256), help="CPUs for trials (default: all).")
@click.option("--join-address-file", metavar="FILE", help="Write the join address here once joiners can come.")
@click.option("--new-address", is_flag=True, help="Make earlier join addresses worthless.")
@json_option
@data_dir_option
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

    Stays in the foreground until Ctrl-C, SIGTERM or `raycolab down` ends it, and every joiner with it. Started again
    with the same data directory it has the same join address: joiners come back by themselves, sweeps go on. Whoever
    has the join address can run code on every node: keep it to yourself.

    \b
    Examples:
      raycolab head
      raycolab head --listen 0.0.0.0:8765 --url ws://192.0.2.7:8765 \\
          --join-address-file address

    Exit codes: 0 ended by SIGTERM or `raycolab down`; 2 options that do not fit together; 3 a taken port, a second head
    with this data directory, or no way out (with ngrok's reason); 130 Ctrl-C.
    """
    from raycolab.cluster import check_capacity
    from raycolab.colab import credentials
    from raycolab.node.data_dir import DataDir
    from raycolab.providers import choose_provider

    cpus, gpus = check_capacity(num_cpus, None)
    os.environ.update(credentials(provider, [], os.environ))
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


@click.command()
@click.argument("address", required=False)
@click.option("--name", metavar="NAME", help="What this node is called (default: joiner-1, joiner-2, ...).")
@click.option("--num-cpus", metavar="N", type=click.IntRange(0, 256), help="CPUs for trials (default: all).")
@click.option("--num-gpus", metavar="N", type=click.IntRange(0, 64), help="GPUs for trials (default: all).")
@click.option("--resources", metavar="JSON", help="Of this node's own, for plain Ray: '{\"disk\": 4}'.")
@click.option("--labels", metavar="KEY=VALUE,...", help="By which plain Ray can choose this node.")
@click.option(
    "--give-up",
    metavar="S",
    type=click.FloatRange(0),
    default=1800.0,
    show_default=True,
    help="Seconds without a head after which to end.",
)
@json_option
@data_dir_option
def join(
    address: str | None,
    name: str | None,
    num_cpus: int | None,
    num_gpus: int | None,
    resources: str | None,
    labels: str | None,
    give_up: float,
    as_json: bool,
    data_dir: str | None,
) -> None:
    """Join this machine to a head, until the head ends it.

    ADDRESS is the line that the head printed, or @FILE for a file that holds it. Without one the environment variable
    RAYCOLAB_JOIN_ADDRESS is read. Both keep the address out of the list of processes. Whoever runs the head runs code
    here: join your own, or one whose owner you trust. `raycolab doctor ADDRESS` says beforehand whether it will work.

    \b
    Examples:
      raycolab join 'tunnel+wss://...'
      raycolab join @address --num-cpus 2

    Exit codes: 0 the head shut down or removed this node; 2 a damaged address; 3 refused (secret, certificate,
    versions), a taken port, nothing reached within 60 s, or no head for --give-up seconds; 130 Ctrl-C.
    """
    from raycolab.cluster import joiner_options, read_address
    from raycolab.node.data_dir import DataDir
    from raycolab.node.launch import ADDRESS_VARIABLE

    text = os.environ.get(ADDRESS_VARIABLE, "") if address is None else address
    os.environ[ADDRESS_VARIABLE] = read_address(text).text
    if math.isnan(give_up):
        raise UsageError("--give-up nan: give a number of seconds; inf is for ever.")
    pairs = dict(each.partition("=")[::2] for each in labels.split(",")) if labels else {}
    options = {**joiner_options(name, num_cpus, num_gpus, _resources(resources), pairs), "give_up_s": give_up}
    _become_supervisor("joiner", str(DataDir.chosen(data_dir, os.environ).path), options, as_json)


@click.command()
@json_option
@data_dir_option
def status(as_json: bool, data_dir: str | None) -> None:
    """Show the nodes and the sweeps of the running cluster.

    \b
    Examples:
      raycolab status
      raycolab status --json | jq '.nodes[] | select(.state != "up")'

    Exit codes: 0; 3 no head is running with this data directory.
    """
    from raycolab.cluster import attach
    from raycolab.view.tables import nodes_table, snapshot_lines, sweeps_table, traffic_lines

    seen = attach(data_dir).status()
    if as_json:
        click.echo(json.dumps(seen))
        return
    sweeps: list[Any] = ["", sweeps_table(seen["sweeps"])] if seen["sweeps"] else []
    show(nodes_table(seen["nodes"]), *sweeps, "", *traffic_lines(seen["traffic"]), *snapshot_lines(seen["snapshots"]))


@click.command()
@data_dir_option
def env(data_dir: str | None) -> None:
    """Let what a shell starts use the cluster by `ray.init()`.

    Writes the variables that Ray needs, its token among them, to a file of this user alone, and prints the line that
    reads them, on any node of the cluster. Whoever has the token can run code on every node.

    \b
    Examples:
      raycolab env                                       prints `. FILE`
      eval "$(raycolab env)"; python train.py

    Exit codes: 0; 3 no head is running with this data directory.
    """
    from raycolab.cluster import attach

    click.echo(f". {shlex.quote(str(attach(data_dir).write_environment()))}")


@click.command()
@data_dir_option
def down(data_dir: str | None) -> None:
    """End the cluster: every joiner, the head, Ray. The database stays.

    What a running sweep finished is kept: a new head with the same data directory, and `raycolab submit` with the same
    file, go on with it.

    \b
    Example:
      raycolab down

    Exit codes: 0; 3 no head is running with this data directory.
    """
    from raycolab.cluster import attach

    head = attach(data_dir)
    head.shutdown()
    say(f"The cluster has ended. What its sweeps found stays in {head.data_dir.path}: `raycolab results NAME`.")


def _resources(text: str | None) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
    except ValueError as error:
        raise UsageError(f"--resources {text}: this is not JSON ({error}): give it as '{{\"disk\": 4}}'.") from error
    if not isinstance(found, dict):
        raise UsageError(f"--resources {text}: give names with their amounts, as '{{\"disk\": 4}}'.")
    return found


def _become_supervisor(
    role: Literal["head", "joiner"], data_dir: str, options: dict[str, Any], as_json: bool
) -> NoReturn:
    """Turn this process into the guard of a supervisor, which carries everything else out."""
    from raycolab.node.launch import Task, prepare

    open_closed_streams()
    _, command = prepare(Task(role, data_dir, options, "json" if as_json else "text"))
    os.execv(command[0], command)
