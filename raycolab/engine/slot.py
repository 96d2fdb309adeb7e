"""The slot task: one Ray worker process that loads MAIN once and runs the trials the engine gives it.

The main thread runs MAIN; two line threads talk to the engine (`ray.get` on a task's main thread would release the
slot's CPU). A slot lives for one sweep: `max_calls=1` ends its process, so no MAIN leaks into the next.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError

from raycolab.engine.slot_desk import MAX_CALLS, SlotDesk
from raycolab.engine.slot_words import Ended, Ready, SetupBroke
from raycolab.main.notebook import MainNotebook
from raycolab.main.runtime import MainRuntime, SetupFailed
from raycolab.node.trial_sign import TrialSign
from raycolab.trial import Metric

__all__ = ["run_slot"]

_LAST_REPORTS_S = 30.0  # a slot that is to end waits so long for the engine to have its reports
_RETRY_S = 1.0  # before a call is repeated while the engine cannot be reached

_log = logging.getLogger(__name__)


@ray.remote(max_calls=1, max_retries=0)
def run_slot(engine: Any, slot: str, main: str, metric: Metric, lock_dir: str) -> None:
    """Load `main` (a MainNotebook's JSON) and run trials until the engine says End."""
    # Ray's workers answer SIGTERM, which they get when their node ends, with a SystemExit in the midst of the trial: it
    # would count as the trial's own failure.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    desk = SlotDesk(slot)
    for number in range(MAX_CALLS):
        threading.Thread(target=_carry, args=(engine, desk), name=f"raycolab-line-{number}", daemon=True).start()
    runtime = MainRuntime(MainNotebook.from_json(main), lock_dir=Path(lock_dir))
    try:
        setup = runtime.setup()
    except SetupFailed as error:
        desk.report(SetupBroke(error.failure))
        desk.close(_LAST_REPORTS_S)
        return
    desk.report(Ready({cell.index: cell.seconds for cell in setup.cells}))
    sign = TrialSign.of(os.environ)
    while (trial := desk.take()) is not None:
        sign.show(f"#{trial.number} {trial.model} x {trial.dataset}")
        outcome = runtime.compute(trial.model, trial.dataset, trial.config, metric, sink=desk.reported)
        sign.clear()
        desk.report(Ended(trial.ticket, outcome))
    desk.close(_LAST_REPORTS_S)


def _carry(engine: Any, desk: SlotDesk) -> None:
    """Carry calls to the engine and its answers back until the slot closes."""
    while (call := desk.next_call()) is not None:
        begun = time.monotonic()
        try:
            reply = ray.get(engine.sync.remote(call))
        except ActorUnavailableError:
            desk.failed()
            time.sleep(_RETRY_S)
        except Exception as error:
            # The engine is gone, or cannot be spoken to, and nobody will take a result: the CPU is worth more than the
            # trial, which the end of this process gives to another slot.
            _log.warning("slot %s ends, it has no engine: %r", call.slot, error)
            os._exit(1)
        else:
            desk.answered(reply, time.monotonic() - begun)
