"""Versions that must agree across a cluster, and the sentence for a joiner whose versions do not."""

from __future__ import annotations

import platform
from collections.abc import Mapping

import pytest

from raycolab.node.messages import mismatch, versions

HEAD = {"raycolab": "0.1.0", "ray": "2.60.0", "python": "3.11.7"}


@pytest.mark.parametrize("python", ["3.11.7", "3.11.14", "3.11.0rc1"])
def test_patch_releases_of_python_form_a_cluster(python: str) -> None:
    """All else that a joiner names beside its versions does not matter."""
    assert mismatch(HEAD, {**HEAD, "python": python, "moon": "full"}) is None


@pytest.mark.parametrize(
    ("joiner", "sentence"),
    [
        (
            {"python": "3.12.7"},
            "The head has Python 3.11.7 and this joiner 3.12.7, which cannot form one cluster: give the"
            " joiner a runtime with any Python 3.11, then join again.",
        ),
        (
            {"ray": "2.59.1"},
            "The head has Ray 2.60.0 and this joiner 2.59.1, which cannot form one cluster: "
            "run `pip install ray==2.60.0` on the joiner, then join again.",
        ),
        (
            {"raycolab": "0.2.0"},
            "The head has raycolab 0.1.0 and this joiner 0.2.0, which cannot form one cluster: "
            "install raycolab 0.1.0 on the joiner, then join again.",
        ),
    ],
)
def test_each_difference_has_its_cure(joiner: Mapping[str, object], sentence: str) -> None:
    """One sentence: what differs, and what to do where."""
    assert mismatch(HEAD, {**HEAD, **joiner}) == sentence


def test_python_comes_first() -> None:
    """Another runtime brings another Ray, so mending Ray first would be in vain."""
    sentence = mismatch(HEAD, {"raycolab": "9", "ray": "9", "python": "9"})
    assert sentence is not None
    assert sentence.startswith("The head has Python 3.11.7")


@pytest.mark.parametrize(
    ("said", "shown"),
    [({}, "none"), ({"python": "9" * 10_000}, "9" * 40), ({"python": []}, "[]"), ({"python": "3.1"}, "3.1")],
)
def test_what_a_joiner_says_may_be_anything(said: Mapping[str, object], shown: str) -> None:
    """Missing, endless, or no text at all."""
    assert f"and this joiner {shown}, which" in str(mismatch(HEAD, said))


def test_ours_are_what_is_installed() -> None:
    """Under the names that `mismatch` compares."""
    assert versions().keys() == HEAD.keys()
    assert versions()["python"] == platform.python_version()
