"""What a head says when it cannot be one, before anything is started, and what `status` shows.

What it does is in `tests/integration`.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from raycolab.errors import ClusterError, RaycolabError, UsageError
from raycolab.node.data_dir import DataDir, Identity
from raycolab.node.head import HeadOptions, HeadSupervisor, cluster_status, engine_failure, write_address_file
from raycolab.summary import NodeStatus, TrafficStatus
from tunnel.secure import HubIdentity

TRACEBACK = 'Traceback (most recent call last):\n  File "x.py", line 1, in <module>\n'


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (f"{TRACEBACK}raycolab.store.failures.StoreOutageError: its disk is full.\n", "its disk is full"),
        (f"{TRACEBACK}ConnectionError: no Ray at 127.77.0.1:10000\n", "ConnectionError: no Ray at 127.77.0.1:10000"),
        ("", "it said nothing"),
    ],
)
def test_an_engine_that_did_not_start_is_quoted(tmp_path: Path, log: str, said: str) -> None:
    """One sentence: of an error of ours without its class, and with one full stop."""
    (tmp_path / "engine.log").write_text(log)
    sentence = engine_failure(tmp_path / "engine.log")
    assert sentence == f"The sweep engine did not start: {said}. Start the head again."


KEY = HubIdentity.create(time.time()).to_pem().decode()


@pytest.mark.parametrize(
    ("hub", "secrets", "kind", "sentence"),
    [
        (
            KEY[:200],
            (),
            ClusterError,
            "{0}/identity.json is damaged: start the head with --new-address (in a notebook new_address=True), and give"
            " joiners the new address.",
        ),
        (
            KEY,
            ("PATH", "HF_TOKEN"),
            UsageError,
            "The secret 'HF_TOKEN' is not in the head's environment: set it, then start the head.",
        ),
    ],
    ids=["a key cut short", "a secret that is not there"],
)
def test_what_a_head_needs_is_looked_at_first(
    tmp_path: Path, hub: str, secrets: tuple[str, ...], kind: type[RaycolabError], sentence: str
) -> None:
    """What it kept, and its environment."""
    data_dir = DataDir(tmp_path)
    data_dir.save(Identity(hub, "t" * 43))
    options = HeadOptions(provider="unix", secrets=secrets)
    with pytest.raises(kind) as refused:
        HeadSupervisor(options, data_dir, tmp_path, {"PATH": "/bin"})
    assert (type(refused.value), str(refused.value)) == (kind, sentence.format(tmp_path))


@pytest.mark.parametrize("grace", ["soon", "-1", "nan", "inf"])
def test_a_grace_period_that_is_none_is_told(tmp_path: Path, grace: str) -> None:
    """As what was typed, not as a bug."""
    with pytest.raises(UsageError, match=f"RAYCOLAB_GRACE_S is '{grace}': give a number of seconds, or leave it out"):
        HeadSupervisor(HeadOptions(provider="unix"), DataDir(tmp_path), tmp_path, {"RAYCOLAB_GRACE_S": grace})


def test_a_damaged_identity_can_be_replaced(tmp_path: Path) -> None:
    """As the sentence says, whatever is in the file; a good one is kept."""
    data_dir = DataDir(tmp_path)
    (tmp_path / "identity.json").write_bytes(bytes(100))
    HeadSupervisor(HeadOptions(provider="unix", new_address=True), data_dir, tmp_path, {})
    data_dir.save(Identity(KEY, "t" * 43))
    HeadSupervisor(HeadOptions(provider="unix"), data_dir, tmp_path, {})


@pytest.mark.parametrize(
    ("place", "reason"), [("gone/address", "No such file or directory"), ("folder", "Is a directory")]
)
def test_a_join_address_that_cannot_be_written_is_an_error(tmp_path: Path, place: str, reason: str) -> None:
    """Its folder has gone since it was looked at, or a folder came in its place; nothing is left beside it."""
    (tmp_path / "folder").mkdir()
    with pytest.raises(ClusterError) as refused:
        write_address_file(tmp_path / place, "tunnel+ws://h#token")
    assert str(refused.value) == (
        f"The join address cannot be written to {tmp_path / place} ({reason}): mend that, or name another file."
    )
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_status_has_each_node_with_the_trial_it_runs() -> None:
    """What the mesh knows of nodes and the engine of trials, by name."""
    nodes = [NodeStatus(name="head", cpus=2), NodeStatus(name="joiner-1", cpus=1)]
    progress = {"trials": {"joiner-1": "#3 svc x iris", "gone": "#4"}, "sweeps": [{"name": "s", "total": 4}]}
    traffic = TrafficStatus(bytes=5, control_bytes=1, provider="unix", month="2026-11", month_bytes=7)
    status = cluster_status(nodes, progress, traffic, None)
    assert [(node["name"], node["cpus"], node["trial"]) for node in status["nodes"]] == [
        ("head", 2, None),
        ("joiner-1", 1, "#3 svc x iris"),
    ]
    assert (status["sweeps"], status["snapshots"]) == (progress["sweeps"], None)
    assert status["traffic"]["month_bytes"] == 7
