"""What a trial takes: how it is written, for all models or one, and how it reads."""

from __future__ import annotations

import pytest

from raycolab.spec.resources import Resources, read_resources, resources_json
from raycolab.spec.spec import SweepSpec

MODELS = ("svc", "cnn")


def _read(said: object) -> dict[str, Resources]:
    return read_resources("resources", said, {"models": MODELS})


@pytest.mark.parametrize(
    ("said", "svc", "cnn"),
    [
        ({}, Resources(), Resources()),
        ({"cpus": 1, "gpus": 0}, Resources(1, 0), Resources(1, 0)),
        ({"cpu": 2, "gpu": 0.5}, Resources(2, 0.5), Resources(2, 0.5)),
        ({"cnn": {"gpus": 1, "fresh_process": True}}, Resources(), Resources(gpus=1, fresh_process=True)),
        ({"cpus": 2, "cnn": {"gpus": 1}}, Resources(2), Resources(gpus=1)),
        ({"memory": "4GB"}, *[Resources(memory=4 * 10**9)] * 2),
        ({"memory": "1.5 GiB"}, *[Resources(memory=3 * 2**29)] * 2),
        ({"memory": "500M"}, *[Resources(memory=500 * 10**6)] * 2),
        ({"memory": 12345}, *[Resources(memory=12345)] * 2),
    ],
)
def test_resources_are_of_all_models_or_of_one(said: object, svc: Resources, cnn: Resources) -> None:
    """In our words or Ray's; what is said of a model replaces the rest; kept as JSON and read again."""
    read = _read(said)
    assert read == {"svc": svc, "cnn": cnn}
    assert _read(resources_json(read)) == read
    spec = SweepSpec.from_arguments("s", models={model: {} for model in MODELS}, resources=said)
    assert spec.resources == read
    assert SweepSpec.from_json(spec.to_json()) == spec


def test_one_ask_of_all_models_is_kept_as_one() -> None:
    """As versions wrote it that knew no models here."""
    assert resources_json(_read({"cpus": 1})) == {"cpus": 1}
    assert resources_json(_read({})) == {}


def test_resources_in_words() -> None:
    """For sentences and panels."""
    assert str(Resources(2, 0.5, 4 * 10**9, True)) == "2 CPUs, 0.5 GPU, 4 GB of memory, a process of its own"
    assert str(Resources(1)) == "1 CPU"
