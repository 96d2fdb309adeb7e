"""What `retry` takes back; the rest of what is asked of a resting sweep is in `tests/integration/test_engine.py`."""

from __future__ import annotations

import pytest

from raycolab.engine.stored_sweeps import retried_states
from raycolab.errors import UsageError
from raycolab.trials import TrialState


def test_whatever_did_not_complete_is_taken_back() -> None:
    """Or the failed alone, or the lost."""
    assert retried_states("failed") == {TrialState.FAILED}
    assert retried_states("lost") == {TrialState.LOST}
    assert retried_states(None) == {TrialState.FAILED, TrialState.LOST, TrialState.CANCELLED}


@pytest.mark.parametrize("which", ["all", ["failed"], {}])
def test_another_word_is_refused(which: object) -> None:
    """As another program may send it."""
    with pytest.raises(UsageError) as refused:
        retried_states(which)
    assert str(refused.value) == f"retry takes failed or lost, not {which!r}: leave it out for both."
