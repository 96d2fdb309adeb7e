"""What the machine must have for a node: packages, addresses and ports, memory, open files, room on its disks."""

from __future__ import annotations

import platform
import resource
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from pathlib import Path

import psutil
from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version

from raycolab.diagnostics.check import Finding, bad, good, note
from raycolab.errors import UsageError
from raycolab.node.data_dir import DATA_DIR_VARIABLE, DataDir, Identity, MonthTraffic, make_run_dir
from raycolab.node.launch import cpu_count
from raycolab.node.messages import versions
from raycolab.node.ray_command import RayPorts, ports_needed
from raycolab.node.ray_process import check_ports_free
from raycolab.text import bytes_text, counted
from tunnel.errors import Refused
from tunnel.nodes import LAST_PORT, Roster, address_of

__all__ = [
    "available_memory",
    "data_directory",
    "drive",
    "file_system",
    "installed_version",
    "loaded_versions",
    "memory",
    "open_files",
    "packages",
    "ports",
    "requirements",
    "shared_memory_room",
    "temporary_folder",
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

_MODULES = {"ipython": "IPython", "pyyaml": "yaml"}  # whose module has another name than the package
_DEMO = "demo"  # the extra with what the example's MAIN imports
# File locks there are not what they are on a disk, so a SQLite database can be damaged.
_NETWORK_DISKS = ("fuse", "nfs", "cifs", "smb", "9p", "ceph", "glusterfs", "lustre")


def packages(needed: list[Requirement], installed: Callable[[str], str | None], loaded: Mapping[str, str]) -> Finding:
    """Whether this is Linux and every package is there, new enough, and the one this process has loaded."""
    if platform.system() != "Linux":
        return bad(f"A head or joiner needs Linux and this is {platform.system()}: use Colab or a Linux machine.")
    wrong, absent_for_demo = [], []
    for each in needed:
        there = installed(each.name)
        if there is not None and each.specifier.contains(there, prereleases=True):
            continue
        if each.marker is not None and "extra" in str(each.marker):
            absent_for_demo.append(f"{each.name}{each.specifier}")
        else:
            wrong.append((f"{each.name} {there or 'is missing'}", f"{each.name}{each.specifier}"))
    if wrong:
        found, cure = zip(*wrong, strict=True)
        quoted = " ".join(f"'{one}'" for one in cure)
        return bad(f"{', '.join(found)}: run `pip install {quoted}`, then restart the kernel if there is one.")
    stale = [name for name, version in loaded.items() if _differ(version, installed(name))]
    if stale:
        return bad(f"{', '.join(stale)} changed on disk since this kernel imported it: restart the kernel.")
    if absent_for_demo:
        missing = ", ".join(absent_for_demo)
        return note(f"All is there but {missing}, which `raycolab demo` needs: run `pip install 'raycolab[demo]'`.")
    ours = versions()
    return good(
        f"Python {platform.python_version()}, Ray {ours['ray']}, raycolab {ours['raycolab']}: the head and every joiner"
        f" need these very versions. All {counted(len(needed), 'package')} are there and new enough."
    )


def requirements() -> list[Requirement]:
    """What raycolab needs here by its own metadata, with what the example's MAIN needs."""
    needed = map(Requirement, metadata.requires("raycolab") or ())
    return [each for each in needed if each.marker is None or each.marker.evaluate({"extra": _DEMO})]


def installed_version(package: str) -> str | None:
    """The version of an installed package, None when there is none."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def loaded_versions(needed: Iterable[Requirement]) -> dict[str, str]:
    """The versions of those packages that this process has imported, which an installation may have replaced."""
    modules = {each.name: sys.modules.get(_MODULES.get(each.name, each.name)) for each in needed}
    found = {name: getattr(module, "__version__", None) for name, module in modules.items()}
    return {name: version for name, version in found.items() if isinstance(version, str)}


def _differ(loaded: str, installed: str | None) -> bool:
    try:
        return installed is not None and Version(loaded) != Version(installed)
    except InvalidVersion:  # one that is not spelled as packages are
        return False


def ports(cpus: int, busy: frozenset[int]) -> Finding:
    """Whether nodes' addresses can be listened at, and a block of ports is free for a node of this many CPUs."""
    for node in NODES:
        address = address_of(node)
        try:
            with socket.create_server((address, 0)) as server:
                socket.create_connection(server.getsockname(), ANSWER_S).close()
        except OSError as error:
            return bad(
                f"{address}, which stands for a node, cannot be used here ({error.strerror or error}): bring loopback"
                " up (`ip link set lo up`), and let programs use all of 127.0.0.0/8."
            )
    size = ports_needed(cpus)
    try:
        block = Roster().join(name=None, ports=size, namespace="", busy=busy).block
    except Refused:
        return bad(f"No {size} ports in a row are free for a node, below {LAST_PORT}: end programs that listen there.")
    check_ports_free(RayPorts.of(block))  # a program may hold one without listening
    first_outgoing = _first_outgoing_port()
    if first_outgoing is not None and first_outgoing <= LAST_PORT:
        return note(
            f"Outgoing connections may take ports from {first_outgoing} on, which nodes use too: run"
            " `sudo sysctl -w net.ipv4.ip_local_port_range='32768 60999'`."
        )
    return good(f"Ports {block.first} to {block.ports[-1]} are free for this node, and nodes' addresses can be used.")


def _first_outgoing_port() -> int | None:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None


def memory(available: int, shared: int | None) -> Finding:
    """Whether Ray and a trial have room: bytes that are free, and of those in /dev/shm, None where there is none."""
    if available < LEAST_MEMORY:
        return bad(
            f"Only {bytes_text(available)} of memory is free, and a node with one small trial takes"
            f" {bytes_text(LEAST_MEMORY)}: end other programs, or choose a runtime with more."
        )
    if shared is None:
        return bad("There is no /dev/shm, which Ray keeps its objects in: mount one (`mount -t tmpfs tmpfs /dev/shm`).")
    wanted = min(int(SHARE_OF_STORE * available), LARGEST_STORE)
    if shared < wanted:
        return note(
            f"/dev/shm has {bytes_text(shared)} free and Ray would take {bytes_text(wanted)}, so it uses the disk,"
            f" which is slower: in a container add --shm-size={bytes_text(wanted).replace(' ', '').lower()}."
        )
    return good(f"{bytes_text(available)} of memory is free for {counted(cpu_count(), 'CPU')}.")


def available_memory() -> int:
    """Bytes that this machine, or the control group it is, has left."""
    available = int(psutil.virtual_memory().available)
    try:  # cgroup v2
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        return available if limit == "max" else max(0, min(available, int(limit) - used))
    except (OSError, ValueError):
        return available


def shared_memory_room(folder: str = "/dev/shm") -> int | None:
    """Bytes that are free there, None where there is no such folder."""
    try:
        return shutil.disk_usage(folder).free
    except FileNotFoundError:
        return None


def open_files(hard_limit: int) -> Finding:
    """Whether this process may open the files that a cluster takes; `hard_limit` as the system allows it."""
    others = (hard_limit - OWN_FILES) // FILES_PER_NODE
    if hard_limit == resource.RLIM_INFINITY or others >= 20:
        return good("A cluster's files may all be open at once.")
    enough = f"enough for about {counted(others, 'other node')}" if others > 0 else "not enough for one"
    sentence = (
        f"Only {hard_limit} files may be open at once, {enough}: raise the hard limit, as root or with --ulimit"
        " nofile=65536 of the container."
    )
    return note(sentence) if others >= 5 else bad(sentence)


def temporary_folder() -> Finding:
    """Whether a node's sockets and Ray's files can lie in the folder for temporary files."""
    make_run_dir().rmdir()
    return _room(tempfile.gettempdir(), "Ray refuses work beyond 95 %")


def data_directory(data_dir: DataDir) -> Finding:
    """Whether a head can keep its identity and database there, and what lies there is whole; nothing stays behind."""
    existing = next(path for path in (data_dir.path, *data_dir.path.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise UsageError(
            f"{data_dir.path} cannot be the data directory ({error.strerror}): give --data-dir, or {DATA_DIR_VARIABLE},"
            " a folder you may write to."
        ) from error
    data_dir.load(Identity)
    data_dir.load(MonthTraffic)
    kind = file_system(existing, {part.mountpoint: part.fstype for part in psutil.disk_partitions(all=True)})
    if kind.startswith(_NETWORK_DISKS):
        return bad(
            f"{data_dir.path} lies on a network disk ({kind}), where a SQLite database can be damaged: give --data-dir"
            " a folder on a local disk."
        )
    found = _room(str(existing), "a database that cannot grow stops the sweep")
    return Finding(found.verdict, f"{data_dir.path} can be written to. {found.message}")


def file_system(path: Path, kinds: Mapping[str, str]) -> str:
    """The kind of file system that a path lies on, by those of all mount points; "" where nobody says."""
    for place in (path.resolve(), *path.resolve().parents):
        if str(place) in kinds:
            return kinds[str(place)]
    return ""


def _room(folder: str, why: str) -> Finding:
    """Whether the disk under a folder has room."""
    total, _, free = shutil.disk_usage(folder)
    full = 1 - free / total if total else 0.0  # as Ray counts it
    if full > FULL:
        return bad(f"The disk of {folder} is {full:.0%} full, and {why}: delete what is not needed.")
    if free < LEAST_ROOM:
        return note(f"The disk of {folder} has only {bytes_text(free)} free: delete what is not needed.")
    return good(f"{bytes_text(free)} is free on the disk of {folder}.")


def drive(folder: Path | None) -> Finding:
    """Whether results outlive a Colab tab: `folder` is raycolab's on a mounted Drive, None without one."""
    if folder is not None:
        return good(f"Drive is mounted: a head keeps snapshots of results and its identity in {folder}.")
    return note(
        "Drive is not mounted, so results end with this tab: run `from google.colab import drive; "
        "drive.mount('/content/drive')` in a cell before the head is started, or download them."
    )
