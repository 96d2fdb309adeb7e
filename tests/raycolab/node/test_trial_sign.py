"""What each slot of a machine runs, as the joiner's panel reads it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from raycolab.node.trial_sign import SIGNS_VARIABLE, TrialSign, newest_sign


def test_the_trial_that_began_last_is_shown(tmp_path: Path) -> None:
    """Until it ends; a long name is cut."""
    assert newest_sign(tmp_path) is None
    sign = TrialSign.of({SIGNS_VARIABLE: str(tmp_path)})
    assert newest_sign(tmp_path) is None
    sign.show("#12 svc x iris")
    assert newest_sign(tmp_path) == "#12 svc x iris"
    sign.show("#13 " + "é" * 1000)
    assert (newest_sign(tmp_path) or "").startswith("#13 éé")
    sign.clear()
    assert newest_sign(tmp_path) is None


def test_of_two_slots_the_newer_trial_is_shown(tmp_path: Path) -> None:
    """Each process has a sign of its own."""
    code = (
        "import sys; from raycolab.node.trial_sign import TrialSign;"
        "TrialSign(sys.argv[1]).show('#2 of the other'); print(flush=True); sys.stdin.read()"
    )
    TrialSign(str(tmp_path)).show("#1 of this one")
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        assert newest_sign(tmp_path) == "#2 of the other"
    assert newest_sign(tmp_path) == "#1 of this one"
    assert [path.name for path in tmp_path.iterdir()] == [str(os.getpid())]


def test_without_a_folder_nothing_is_shown(tmp_path: Path) -> None:
    """The head's own slots, and a folder that is gone: the trial runs all the same."""
    for sign in (TrialSign.of({}), TrialSign(str(tmp_path / "gone"))):
        sign.show("#1")
        sign.clear()
    assert list(tmp_path.iterdir()) == []
