"""What the machine must have for a node: loopback addresses, ports, namespaces, memory, files, room on its disks."""

from __future__ import annotations

import resource
import shutil
import socket
import tempfile
from pathlib import Path

import psutil

from raycolab.diagnostics.check import Finding, bad, good, note
from raycolab.node.data_dir import make_run_dir
from raycolab.node.launch import cpu_count, gpu_count
from raycolab.node.ray_command import RayPorts, ports_needed
from raycolab.node.ray_process import check_ports_free
from raycolab.sandbox.sessions import probe
from raycolab.text import bytes_text
from tunnel.errors import Refused
from tunnel.nodes import LAST_PORT, Roster, address_of, usable_ports

__all__ = [
    "available_memory",
    "files",
    "loopback",
    "memory",
    "ports",
    "room",
    "run_folder",
    "sessions",
    "shared_memory",
    "shared_memory_room",
]

NODES = (1, 2, 6, 254)  # whose addresses are tried: the head's, a few, the last
ANSWER_S = 2.0
LEAST_MEMORY = 1_000_000_000  # bytes: an idle head's processes (0.63 GB, PSS, Ray 2.60, 2 CPUs) and a small trial
SHARE_OF_STORE = 0.3  # of the memory, Ray's default for its object store
LARGEST_STORE = 10_000_000_000  # bytes; Ray gives more only where /dev/shm holds it
FILES_PER_NODE = 64  # listeners for a node of 4 CPUs (32), and streams
OWN_FILES = 200  # of a supervisor and of Ray
FULL = 0.95  # of a disk: Ray refuses work beyond (local_fs_capacity_threshold)
LEAST_ROOM = 1_000_000_000  # bytes, for Ray's logs and spilled objects


def loopback(nodes: tuple[int, ...] = NODES) -> Finding:
    """Whether the addresses that stand for nodes can be listened at and dialled."""
    for node in nodes:
        address = address_of(node)
        try:
            with socket.create_server((address, 0)) as server:
                socket.create_connection(server.getsockname(), ANSWER_S).close()
        except OSError as error:
            return bad(
                f"{address}, which stands for a node, cannot be used here ({error.strerror or error}): bring loopback"
                " up (`ip link set lo up`), and let programs use all of 127.0.0.0/8."
            )
    return good(f"{address_of(nodes[0])} to {address_of(nodes[-1])} can be listened at and dialled.")


def ports(cpus: int, busy: frozenset[int]) -> Finding:
    """Whether a block of ports is free for a node of this machine's CPUs, and what else is in the way."""
    size = ports_needed(cpus)
    usable = sum(map(len, usable_ports()))
    roster = Roster()
    try:
        block = roster.join(name=None, ports=size, namespace="", busy=busy).block
    except Refused:
        return bad(f"No {size} ports in a row are free for a node, below {LAST_PORT}: end programs that listen there.")
    check_ports_free(RayPorts.of(block))  # a program may hold one without listening
    taken = len(busy & {port for stretch in usable_ports() for port in stretch})
    first_outgoing = _first_outgoing_port()
    if first_outgoing is not None and first_outgoing <= LAST_PORT:
        return note(
            f"Outgoing connections may take ports from {first_outgoing} on, which nodes use too: run"
            " `sudo sysctl -w net.ipv4.ip_local_port_range='32768 60999'`."
        )
    return good(f"Ports {block.first} to {block.ports[-1]} are free for this node; {taken} of {usable} are taken.")


def _first_outgoing_port() -> int | None:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None


def sessions() -> Finding:
    """Whether simulated sessions can be made, which only the demo uses."""
    capability = probe()
    if capability.kind is None:
        return note(f"{capability.reason} Without them `raycolab demo` runs its joiners as plain processes.")
    how = "as root" if capability.kind == "root" else "in a user namespace"
    return good(f"Simulated sessions can be made ({how}).")


def memory(available: int) -> Finding:
    """Whether Ray and a trial have room; `available` in bytes."""
    if available < LEAST_MEMORY:
        return bad(
            f"Only {bytes_text(available)} of memory is free, and a node with one small trial takes"
            f" {bytes_text(LEAST_MEMORY)}: end other programs, or choose a runtime with more."
        )
    cpus, gpus = cpu_count(), gpu_count()
    has = f"{cpus} CPU{'' if cpus == 1 else 's'}" + (f" and {gpus} GPU{'' if gpus == 1 else 's'}" if gpus else "")
    return good(f"{bytes_text(available)} of memory is free for {has}.")


def available_memory() -> int:
    """Bytes that this machine, or the control group it is, has left."""
    available = int(psutil.virtual_memory().available)
    try:  # cgroup v2
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        return available if limit == "max" else max(0, min(available, int(limit) - used))
    except (OSError, ValueError):
        return available


def shared_memory(room: int | None, available: int) -> Finding:
    """Whether Ray's object store fits /dev/shm; `room` is what is free there in bytes, None where there is none."""
    wanted = min(int(SHARE_OF_STORE * available), LARGEST_STORE)
    if room is None:
        return bad("There is no /dev/shm, which Ray keeps its objects in: mount one (`mount -t tmpfs tmpfs /dev/shm`).")
    if room < wanted:
        return note(
            f"/dev/shm has {bytes_text(room)} free and Ray would take {bytes_text(wanted)}, so it uses the disk, which"
            f" is slower: in a container add --shm-size={bytes_text(wanted).replace(' ', '').lower()}."
        )
    return good(f"/dev/shm has {bytes_text(room)} free; Ray takes up to {bytes_text(wanted)}.")


def shared_memory_room(folder: str = "/dev/shm") -> int | None:
    """Bytes that are free there, None where there is no such folder."""
    try:
        return shutil.disk_usage(folder).free
    except FileNotFoundError:
        return None


def files(hard_limit: int) -> Finding:
    """Whether this process may open the files that a cluster takes; `hard_limit` as the system allows it."""
    unlimited = hard_limit == resource.RLIM_INFINITY
    others = (hard_limit - OWN_FILES) // FILES_PER_NODE
    if unlimited or others >= 20:
        return good("No limit on open files." if unlimited else f"{hard_limit} files may be open at once.")
    enough = f"enough for about {others} other node{'' if others == 1 else 's'}" if others > 0 else "not enough for one"
    sentence = (
        f"Only {hard_limit} files may be open at once, {enough}: raise the hard limit, as root or with --ulimit"
        " nofile=65536 of the container."
    )
    return note(sentence) if others >= 5 else bad(sentence)


def run_folder() -> Finding:
    """Whether a node's sockets and Ray's files can lie in the folder for temporary files."""
    folder = make_run_dir()
    folder.rmdir()
    return room(tempfile.gettempdir(), "Ray refuses work beyond 95 %")


def room(folder: str, why: str) -> Finding:
    """Whether the disk under a folder has room."""
    total, _, free = shutil.disk_usage(folder)
    full = 1 - free / total if total else 0.0  # as Ray counts it
    if full > FULL:
        return bad(f"The disk of {folder} is {full:.0%} full, and {why}: delete what is not needed.")
    if free < LEAST_ROOM:
        return note(f"The disk of {folder} has only {bytes_text(free)} free: delete what is not needed.")
    return good(f"{bytes_text(free)} is free on the disk of {folder}.")
