"""The API's messages as bytes: what is sent arrives, whatever is in it; errors and rows too."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raycolab import errors
from raycolab.engine.messages import Assignment
from raycolab.errors import ClusterError, RaycolabError, UsageError
from raycolab.node import api
from raycolab.spec.keys import ArgumentError
from raycolab.store import ClaimLostError, StoreOutageError
from raycolab.trials import AttemptRow, ErrorKind, Failure, Outcome, ReportRow, TrialRow, TrialState

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
CONFIGS = st.dictionaries(st.text(), SCALARS, max_size=4)
HUGE = st.integers(min_value=10**300, max_value=10**500)


def sent(message: object, kind: Any) -> Any:
    """The message as it arrives."""
    return api.decode(api.encode(message), kind)


@given(CONFIGS | st.dictionaries(st.text(), HUGE, max_size=2), st.text())
def test_an_outcome_arrives_as_it_is(metrics: dict[str, Any], output: str) -> None:
    """Numbers beyond 64 bits and beyond a float too."""
    failure = Failure(ErrorKind.EXCEPTION, "ValueError", output, cell_index=3)
    push = api.Push("s", "p", 7, Outcome(TrialState.FAILED, metrics, failure, 1.5, 2.5, output))
    assert sent(push, api.EngineRequest) == push


@given(CONFIGS | st.dictionaries(st.text(), HUGE, max_size=2))
def test_a_trial_arrives_as_it_is(config: dict[str, Any]) -> None:
    """With every value of its configuration."""
    pulled = api.Pulled(Assignment(1, 2, "svc", "iris", config))
    assert sent(pulled, api.Pulled) == pulled


def test_what_no_text_can_hold_is_replaced() -> None:
    """A trial may print half of a surrogate pair; that loses no result."""
    push = api.Push("s", "p", 7, Outcome(TrialState.COMPLETE, {"acc": math.inf}, output="a\ud800b"))
    there = sent(push, api.EngineRequest)
    assert (there.outcome.metrics, there.outcome.output) == ({"acc": math.inf}, "a?b")


@given(st.binary())
def test_any_bytes_are_a_message_or_a_decode_error(body: bytes) -> None:
    """A stranger's bytes end a request, not the head."""
    with contextlib.suppress(msgspec.DecodeError):
        api.decode(body, api.EngineRequest)


def test_a_request_of_the_engine_is_not_the_head_s() -> None:
    """So it is passed on as it is; so is one that nobody knows."""
    assert api.decode_known(api.encode(api.Status()), api.HeadRequest) == api.Status()
    assert api.decode_known(api.encode(api.Start("s")), api.HeadRequest) is None
    assert api.decode_known(b"\xc1", api.HeadRequest) is None


@pytest.mark.parametrize("kind", sorted(set(errors.__all__) - {"Detached"}))
def test_every_error_crosses_as_itself(kind: str) -> None:
    """Class, sentence and with them the exit code are the same at both ends."""
    error = getattr(errors, kind)("what, whose turn, what to do")
    there = sent(api.Problem.of(error), api.Problem).as_error()
    assert (type(there), str(there)) == (type(error), str(error))


@pytest.mark.parametrize(
    ("error", "met"),
    [
        (StoreOutageError("its disk is full"), ClusterError),
        (ClaimLostError("another head runs it"), ClusterError),
        (ArgumentError("no name", ("name",)), UsageError),
    ],
)
def test_an_error_made_elsewhere_keeps_its_exit_code(error: RaycolabError, met: type[RaycolabError]) -> None:
    """A command ends with the same code whether the head or the command itself met it."""
    there = sent(api.Problem.of(error), api.Problem).as_error()
    assert (type(there), str(there), there.exit_code) == (met, str(error), error.exit_code)


@pytest.mark.parametrize("kind", ["SystemExit", "__name__", "annotations", ""])
def test_an_unknown_class_is_the_base_error(kind: str) -> None:
    """A name from the other side reaches nothing but the error classes."""
    assert type(api.Problem("no", kind).as_error()) is RaycolabError


class TestPages:
    """Rows in pages."""

    @given(st.lists(st.tuples(CONFIGS, CONFIGS | st.dictionaries(st.text(), HUGE, max_size=2)), max_size=5))
    def test_trials_arrive_as_they_are(self, values: list[tuple[dict[str, Any], dict[str, Any]]]) -> None:
        """Configurations and metrics, and what a failure left."""
        rows = [
            TrialRow(n, "svc", "iris", config, TrialState.FAILED, metrics, error_kind=ErrorKind.OOM)
            for n, (config, metrics) in enumerate(values)
        ]
        page = sent(api.page_of("trials", rows, more=False), api.Page)
        assert (api.rows_of("trials", page), page.more) == (rows, False)

    def test_the_next_page_begins_behind_the_last_row(self) -> None:
        """By trial number, and by what is counted within a trial."""
        assert api.keys_of("trials", TrialRow(7, "m", "d", None))[0] == 7
        assert api.keys_of("attempts", AttemptRow(7, 2, "head", "LOST", 1.0)) == (7, 2)
        assert api.keys_of("reports", ReportRow(7, 30, 0.5)) == (7, 30)

    def test_long_rows_make_more_pages(self) -> None:
        """No page goes far beyond its size, whatever trials print."""
        rows = [TrialRow(n, "m", "d", {}, TrialState.FAILED, traceback="x" * 1_000_000) for n in range(20)]
        page = api.page_of("trials", rows, more=False)
        assert page.more
        assert api.PAGE_BYTES < len(api.encode(page)) < 2 * api.PAGE_BYTES

    def test_a_hundred_thousand_trials_are_small(self) -> None:
        """About 115 bytes each: 11.5 MB."""
        config = {"C": 0.12345678, "gamma": 0.001234, "kernel": "rbf"}
        rows = [
            TrialRow(n, "svc", "iris", config, TrialState.COMPLETE, {"acc": 0.97}, "joiner-1", 1, 1.5e9, 1.6e9)
            for n in range(1000)
        ]
        assert len(api.encode(api.page_of("trials", rows, more=False))) < 120 * len(rows)
