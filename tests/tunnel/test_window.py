"""Receive windows and budgets: who may send how much, and that all of it is given back."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tunnel.window import BUDGET, GROWTH, INITIAL_WINDOW, MAX_WINDOW, Budget, ReceiveWindow


def run(window: ReceiveWindow, count: int) -> int:
    """A sender with more to send than it may moves `count` bytes, delivered at once; returns its new credit."""
    granted = 0
    while count > 0:
        step = min(count, window.outstanding)
        assert step > 0, "the sender may not send although nothing is held"
        window.received(step)
        window.wanted()
        granted += window.delivered(step)
        count -= step
    return granted


def large(budget: Budget, size: int = MAX_WINDOW) -> ReceiveWindow:
    """A window that a busy sender made grow to `size`."""
    window = ReceiveWindow(budget)
    while window.size < size:
        run(window, INITIAL_WINDOW)
    return window


class TestCredit:
    """What a sender may send."""

    def test_credit_comes_in_halves_of_a_window(self) -> None:
        """A CREDIT per delivery would be chatter."""
        window = ReceiveWindow(Budget(0))
        window.received(INITIAL_WINDOW)
        half = INITIAL_WINDOW // 2
        assert window.delivered(half - 1) == 0
        assert window.delivered(1) == half
        assert window.outstanding == half


class TestGrowth:
    """How a window comes to hold what a long fast line needs."""

    def test_a_busy_stream_grows_to_the_largest_window(self) -> None:
        """Each whole window that was used up makes it GROWTH times larger."""
        budget = Budget()
        window = ReceiveWindow(budget)
        sizes = [window.size]
        while window.size < MAX_WINDOW:
            run(window, 1024)
            if window.size != sizes[-1]:
                sizes.append(window.size)
        assert sizes == [INITIAL_WINDOW * GROWTH**step for step in range(4)] + [MAX_WINDOW]
        assert budget.reserved == MAX_WINDOW - INITIAL_WINDOW
        run(window, 4 * MAX_WINDOW)
        assert window.size == MAX_WINDOW

    def test_a_trickle_takes_no_budget_however_long_it_goes_on(self) -> None:
        """A heartbeat, whose sender never waits for credit, has the window it needs."""
        budget = Budget()
        window = ReceiveWindow(budget)
        for _ in range(2000):
            window.received(1000)
            window.delivered(1000)
        assert (window.size, budget.reserved) == (INITIAL_WINDOW, 0)

    def test_newcomers_are_not_starved_by_those_who_came_first(self) -> None:
        """Busy streams that want more than there is come to about equal windows."""
        budget = Budget(BUDGET)
        windows = [large(budget) for _ in range(7)]
        windows += [ReceiveWindow(budget) for _ in range(13)]
        for _ in range(400):
            for window in windows:
                run(window, 128 * 1024)
        sizes = [window.size for window in windows]
        assert max(sizes) < 3 * min(sizes)
        assert sum(sizes) > BUDGET // 2

    def test_a_burst_long_ago_does_not_make_a_trickle_grow(self) -> None:
        """Each growth needs a sender that waited since the last one."""
        window = large(Budget(), INITIAL_WINDOW * GROWTH)
        for _ in range(2000):
            window.received(1000)
            window.delivered(1000)
        assert window.size == INITIAL_WINDOW * GROWTH


class TestGivingBack:
    """How budgets come to zero again."""

    def test_after_finish_only_what_is_held_is_charged(self) -> None:
        """A stream whose other half goes on for hours does not keep credit that nobody can use."""
        budget = Budget()
        window = large(budget)
        window.received(1_000_000)
        window.finish()
        assert (window.outstanding, budget.reserved) == (0, 1_000_000 - INITIAL_WINDOW)
        assert window.delivered(900_000) == 0
        assert budget.reserved == 100_000 - INITIAL_WINDOW
        assert window.delivered(100_000) == 0
        assert budget.reserved == 0

    def test_assigned_to_a_budget_that_is_overdrawn_a_window_shrinks_and_goes_on(self) -> None:
        """It gives back what is delivered until it is the initial window, and never stalls."""
        window = large(Budget(), 64 * INITIAL_WINDOW)
        small = Budget(INITIAL_WINDOW)
        window.assign(small)
        assert small.free < 0
        run(window, 64 * INITIAL_WINDOW)
        assert small.free >= 0
        run(window, 1024 * INITIAL_WINDOW)

    def test_a_window_that_was_assigned_charges_its_new_budget_alone(self) -> None:
        """What it has beyond the initial window moves along."""
        first, second = Budget(), Budget()
        window = large(first, INITIAL_WINDOW * GROWTH)
        window.assign(second)
        assert (first.reserved, second.reserved) == (0, INITIAL_WINDOW * (GROWTH - 1))
        window.close()
        assert second.reserved == 0


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 40 * INITIAL_WINDOW), st.data())
def test_windows_stay_within_their_budget_and_never_stall(total: int, data: st.DataObject) -> None:
    """Whatever several streams of one destination do: bounds hold, and who holds nothing may always send."""
    budget = Budget(total)
    windows = [ReceiveWindow(budget) for _ in range(4)]
    finished: set[int] = set()
    for _ in range(data.draw(st.integers(1, 60))):
        index = data.draw(st.integers(0, 3))
        window = windows[index]
        action = data.draw(st.sampled_from(["come", "come", "wait", "leave", "leave", "finish"]))
        if action == "come" and index not in finished:
            window.received(data.draw(st.integers(0, window.outstanding)))
        elif action == "wait":
            window.wanted()
        elif action == "leave":
            window.delivered(data.draw(st.integers(0, window.held)))
        elif action == "finish" and data.draw(st.integers(0, 9)) == 0:
            finished.add(index)
            window.finish()
        assert budget.reserved == sum(each.size - INITIAL_WINDOW for each in windows) <= total
        for number, each in enumerate(windows):
            assert each.size >= INITIAL_WINDOW
            assert each.outstanding >= 0
            assert each.held >= 0
            assert each.outstanding + each.held <= each.size
            assert number in finished or each.held or each.outstanding * 2 >= each.size
    for window in windows:
        window.close()
    assert budget.reserved == 0
