"""Every kind of failure, made for real on real Ray: the state, the error kind, the message, and what ran next."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pytest
from _pytest.mark import ParameterSet

from raycolab.trials import ErrorKind, TrialState
from tests.integration.failure_stage import Ending, Stage, full_disk
from tests.integration.sessions import until

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]


@dataclass(frozen=True, slots=True)
class Kind:
    """One row: a failure, how it is made, and what has to come of it."""

    name: str
    sweep: str  # the fixture that makes it
    source: str  # what MAIN does, in `compute` or in a cell
    state: TrialState
    error_kind: ErrorKind | None
    message: str  # a pattern; of the trial's row, or where it has none of the attempt or the sweep
    tries: tuple[str, ...]  # the outcomes of its attempts
    then: frozenset[str]  # nodes where later trials are COMPLETE, at least
    never: str = ""  # the node where nothing is any more

    def __str__(self) -> str:
        return self.name


COMPLETE, FAILED, LOST, PENDING = TrialState.COMPLETE, TrialState.FAILED, TrialState.LOST, TrialState.PENDING
NODE = r"(head|joiner-\d)"
ALL = frozenset({"head", "joiner-1", "joiner-2"})
OTHERS = ALL - {"joiner-1"}  # where its cell cannot run

# fmt: off
KINDS = (
    Kind("exception", "in_trials", "raise ValueError('C is negative')",
         FAILED, ErrorKind.EXCEPTION, r"^ValueError: C is negative \(cell 2\)$", ("FAILED",), ALL),
    Kind("sys_exit", "in_trials", "sys.exit('enough')",
         FAILED, ErrorKind.EXCEPTION,
         r"^SystemExit: enough: the code called exit\(\), .* \(cell 3\)$", ("FAILED",), ALL),
    Kind("memory_error", "in_trials", "return bytearray(1 << 60)",
         FAILED, ErrorKind.OOM, r"^MemoryError \(cell 4\)$", ("FAILED", "FAILED"), ALL),
    Kind("array", "in_trials", "return numpy.zeros(3)",
         FAILED, ErrorKind.BAD_RETURN,
         r"^BadReturn: compute returned a numpy\.ndarray of shape \(3,\); return the number 'metric', or a dict of "
         r"numbers that has it$", ("FAILED",), ALL),
    Kind("missing_metric", "in_trials", "return {'loss': 0.5}",
         FAILED, ErrorKind.BAD_RETURN, r"^BadReturn: compute returned a dict without 'metric' \(it has 'loss'\); ",
         ("FAILED",), ALL),
    Kind("nan", "in_trials", "return float('nan')",
         COMPLETE, None, "^$", ("COMPLETE",), ALL),
    Kind("segfault", "in_trials", "time.sleep(0.5)\nctypes.string_at(0)",
         LOST, ErrorKind.LOST, rf"^lost 3 times, the last time on {NODE}: its process was killed \(SIGSEGV\) on ",
         ("LOST",) * 3, ALL),
    Kind("setup_on_one_node", "in_setup", "if socket.gethostname() == BROKEN:\n    raise OSError('no such dataset')",
         COMPLETE, None, r"^MAIN's setup failed on joiner-1: OSError: no such dataset \(cell 2\)$", (), OTHERS,
         "joiner-1"),
    Kind("hang", "in_setup", "time.sleep(1000)",
         FAILED, ErrorKind.TIMEOUT,
         r"^TimeoutError: the trial ran longer than timeout_s = 3 s and was killed$", ("FAILED",), OTHERS),
    Kind("os_exit", "on_a_small_node", "time.sleep(0.5)\nos._exit(1)",
         LOST, ErrorKind.LOST, rf"^lost 3 times, the last time on {NODE}: its process ended with exit code 1 on ",
         ("LOST",) * 3, ALL),
    Kind("out_of_memory", "on_a_small_node", "kept = []\nwhile len(kept) < 24:\n    kept.append(b'x' * (1 << 28))",
         COMPLETE, None, "^OutOfMemory: its process was killed because the node ran out of memory on joiner-3$",
         ("FAILED", "COMPLETE"), ALL | {"joiner-3"}),
    Kind("node_loss", "on_a_small_node", "open(os.path.join(FOLDER, 'waits'), 'w').close()\ntime.sleep(1000)",
         COMPLETE, None,  # the hub's word, or Ray's, whichever comes first
         r"^(joiner-3 was lost|its node was lost \(NodeDiedError\) on joiner-3)$", ("LOST", "COMPLETE"), ALL,
         "joiner-3"),
    Kind("older_numpy", "older_numpy", "%pip install numpy==1.0.0",
         PENDING, None, rf"^MAIN's setup failed on every node, so no trial can run\. On {NODE}: ProtectedPackageError: "
         r"`\S+ -m pip install numpy==1\.0\.0` was refused before it changed anything, because it needs numpy==1\.0\.0 "
         r"\(here it is \d\S+\), but .*\d\S+ needs numpy.*\(cell 2\)\. Fix MAIN and submit the sweep again, or "
         r"fix the nodes and run: raycolab resume older-numpy$", (), ALL),
    Kind("another_ray", "another_ray", "%pip install ray==2.0.0",
         PENDING, None, rf"^MAIN's setup failed on every node, so no trial can run\. On {NODE}: ProtectedPackageError: "
         r"`\S+ -m pip install ray==2\.0\.0` was refused before it changed anything, because it needs ray==2\.0\.0 "
         r"\(here it is \d\S+\), but every node of the cluster must have the same ray.*\(cell 2\)\. "
         r"Fix MAIN and submit the sweep again, or "
         r"fix the nodes and run: raycolab resume another-ray$", (), ALL),
    Kind("full_disk", "on_a_small_disk", "return {'score': x}",
         COMPLETE, None, r"^the database \S+/raycolab\.db cannot be used: its disk is full: free some space\.$",
         ("COMPLETE",), frozenset({"head"})),
)
# fmt: on

SOURCES = {kind.name: kind.source for kind in KINDS}
Endings = Mapping[str, Ending]


def of(sweep: str) -> list[str]:
    """The kinds that a fixture makes."""
    return [kind.name for kind in KINDS if kind.sweep == sweep]


@pytest.fixture(scope="module")
def stage(doomed: Stage) -> Stage:
    """A head and two joiners; the fixtures below run their sweeps on it, in the order of the table."""
    return doomed


@pytest.fixture(scope="module")
def in_trials(stage: Stage) -> Endings:
    """One sweep with a trial of each kind, and many that are fine."""
    names = of("in_trials")
    run = stage.start("in-trials", stage.main({name: SOURCES[name] for name in names}), names)
    numbers = {name: run.number(name) for name in names}
    run.wait_for_others(numbers.values(), ALL)
    run.stop()
    return {name: run.ending(number) for name, number in numbers.items()}


@pytest.fixture(scope="module")
def in_setup(stage: Stage) -> Endings:
    """A cell that one node cannot run; on the others a trial hangs. No other trial is charged with anything."""
    cell = SOURCES["setup_on_one_node"].replace("BROKEN", repr(stage.host("joiner-1")))
    run = stage.start("in-setup", stage.main({"hang": SOURCES["hang"]}, cell), ["hang"], timeout_s=3)
    until(run.sentence, 60, run.told)
    sentence = run.sentence()
    hung = run.number("hang")
    run.wait_for_others([hung], OTHERS)
    run.stop()
    assert run.sentence() == sentence
    assert {each.node for each in run.attempts} == OTHERS
    assert {row.attempts for row in run.rows if row.state is COMPLETE} == {1}
    return {"hang": run.ending(hung), "setup_on_one_node": run.whole(sentence, "fine")}


@pytest.fixture(scope="module")
def on_a_small_node(stage: Stage) -> Endings:
    """What comes first to the small node is more than its memory; its last trial is there when the node ends."""
    sources = {name: SOURCES[name] for name in of("on_a_small_node")} | {"comes_through": "pass"}
    with stage.small_node() as small:
        there = ["out_of_memory", "comes_through", "node_loss"]
        cells = stage.main(sources, small=stage.host(small), at_small=there)
        run = stage.start("on-a-small-node", cells, ["os_exit"])
        exits = run.number("os_exit")
        run.wait_for_others([exits], ALL)
        until((stage.nodes.folder / "waits").exists, 60, run.told)
    until(lambda: run.number_of(small, LOST) is not None, 60, run.told)
    killed, lost = run.number_of(small, FAILED), run.number_of(small, LOST)
    assert killed is not None
    assert lost is not None
    run.wait_for_others([killed, lost], ALL)
    run.stop()
    return {"os_exit": run.ending(exits), "out_of_memory": run.ending(killed), "node_loss": run.ending(lost)}


@pytest.fixture(scope="module")
def older_numpy(stage: Stage) -> Endings:
    """MAIN installs an older numpy on every node."""
    return {"older_numpy": installs(stage, "older_numpy")}


@pytest.fixture(scope="module")
def another_ray(stage: Stage) -> Endings:
    """MAIN installs another ray on every node."""
    return {"another_ray": installs(stage, "another_ray")}


@pytest.fixture(scope="module")
def on_a_small_disk() -> Endings:
    """A head whose database finds no room for a while."""
    return {"full_disk": full_disk()}


def installs(stage: Stage, name: str) -> Ending:
    """A sweep that is held for what MAIN installs; MAIN and the nodes are mended, and it goes on."""
    sweep = name.replace("_", "-")
    package, version = SOURCES[name].removeprefix("%pip install ").split("==")
    run = stage.start(sweep, stage.main({}, stage.installing(package, version)), [])
    run.wait_told("HELD")
    ending = run.whole(run.sentence(), "fine")
    assert run.attempts == []
    stage.mend()
    stage.start(sweep, stage.main({}), [])
    run.wait_for_others([0], ALL)
    run.stop()
    return dataclasses.replace(ending, after=run.nodes_after(0.0))


def rows() -> Iterator[ParameterSet]:
    """The table; what takes a minute or much memory of its own is run by hand."""
    for kind in KINDS:
        quick = kind.sweep in ("in_trials", "in_setup")
        yield pytest.param(kind, id=kind.name, marks=() if quick else pytest.mark.slow)


@pytest.mark.parametrize("kind", list(rows()))
def test_each_kind_of_failure_has_its_end(kind: Kind, request: pytest.FixtureRequest) -> None:
    """The state, the error kind, the message, how often it was tried; others go on, and no failure is the best."""
    endings: Endings = request.getfixturevalue(kind.sweep)
    ending = endings[kind.name]
    sys.stdout.write(f"{kind.name} | {ending}\n")
    assert (ending.state, ending.error_kind) == (kind.state, kind.error_kind)
    assert re.search(kind.message, ending.message)
    assert tuple(outcome for outcome, _ in ending.tries) == kind.tries
    assert ending.after >= kind.then
    assert kind.never not in ending.after
    came_through = kind.state is COMPLETE and kind.name != "nan"  # on its second try it may well be the first
    assert came_through or not ending.is_best
