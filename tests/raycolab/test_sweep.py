"""Sweeps as a person has them: declared through a head that has no engine, read from it and where none runs."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

import raycolab
from raycolab.engine.stored_sweeps import drop_archives
from raycolab.errors import (
    ClusterError,
    MainError,
    NoHeadError,
    SpaceError,
    SweepChangedError,
    UnknownSweepError,
    UsageError,
)
from raycolab.main.notebook import MainNotebook
from raycolab.node import api
from raycolab.node.messages import versions
from raycolab.spec.spec import SweepSpec
from raycolab.store import open_store, sqlite_url
from raycolab.store.archives import Archives
from raycolab.sweep import Sweep, declare, find, list_sweeps
from raycolab.trials import AttemptRow, ReportRow, SweepRow, SweepState, TrialRow, TrialState
from tests.raycolab.scripted_head import scripted_head

COMPUTE = "def compute(model, dataset, x):\n    return x"
MODELS = {"svc": {"x": [0.25, 0.5]}}

Declare = Callable[..., Sweep]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The data directory."""
    return tmp_path / "data"


@pytest.fixture
def said() -> list[str]:
    """What was announced."""
    return []


@pytest.fixture
def make(folder: Path, said: list[str]) -> Declare:
    """`declare` of a sweep `s` of two trials, but for what is given."""

    def make(**changes: Any) -> Sweep:
        given: dict[str, Any] = {"models": MODELS, "datasets": ["iris"], "jobs_per_pair": 2, "main": main(COMPUTE)}
        given |= changes
        with scripted_head(folder):
            return declare(given.pop("name", "s"), data_dir=folder, announce=said.append, **given)

    return make


def main(*sources: str) -> Any:
    """A notebook of these code cells."""
    return new_notebook(cells=[new_code_cell(source) for source in sources])


def stored(folder: Path, name: str = "s") -> tuple[SweepRow, list[TrialRow]]:
    """The rows of a sweep."""
    with open_store(sqlite_url(folder / "raycolab.db")) as store:
        row = store.existing_sweep(name)
        return row, store.trials(row.id)


def finish(folder: Path, state: TrialState = TrialState.COMPLETE) -> None:
    """Let the first trial of `s` have ended."""
    with open_store(sqlite_url(folder / "raycolab.db")) as store:
        row = store.existing_sweep("s")
        trial = store.trials(row.id)[0]
        store.write(row.id, [replace(trial, state=state, metrics={"metric": 0.5}, output="epoch 1")])


class TestANewSweep:
    """`declare` of a name that is not in the database."""

    def test_it_is_written_whole(self, make: Declare, folder: Path, said: list[str]) -> None:
        """Spec, frozen MAIN, fingerprints, versions and every trial, in one go; nothing is announced."""
        sweep = make()
        row, trials = stored(folder)
        assert sweep.state is row.state is SweepState.DECLARED
        assert (SweepSpec.from_json(row.spec).datasets, row.versions) == (("iris",), versions())
        assert MainNotebook.from_json(row.main or "").code_fingerprint() == row.code_fingerprint
        assert [(trial.number, trial.state) for trial in trials] == [(0, TrialState.PENDING), (1, TrialState.PENDING)]
        assert (sweep.database, said) == (str(folder / "raycolab.db"), [])
        assert repr(sweep) == "<sweep 's': DECLARED  0/2  ok 0  failed 0  running 0>"

    def test_it_needs_main(self, make: Declare) -> None:
        """Only a sweep that exists has one already."""
        with pytest.raises(UsageError, match="The sweep 's' is new, so it needs `main`: the path of the notebook"):
            make(main=None)

    @pytest.mark.parametrize(
        ("changes", "error", "sentence"),
        [
            ({"main": "NONE.ipynb"}, MainError, "There is no notebook 'NONE.ipynb'"),
            ({"main": main("a = 1")}, MainError, "notebook defines no `compute`: add a cell with"),
            ({"models": {"svc": {"y": [1]}}}, SpaceError, "has no parameter 'y' that the space of model 'svc' gives"),
            ({"models": {"svc": {}}}, SpaceError, "needs 'x', which the space of model 'svc' does not give"),
            ({"model": {"svc": {}}}, UsageError, "unknown key 'model' (did you mean 'models'?)"),
            ({"name": " "}, UsageError, "a sweep's name is text and not empty"),
            ({"jobs_per_pair": 10**9}, UsageError, "jobs_per_pair is a whole number from 1 to 1,000,000"),
        ],
    )
    def test_what_is_wrong_with_it_is_told_before_a_head_is_looked_for(
        self, folder: Path, changes: dict[str, Any], error: type[Exception], sentence: str
    ) -> None:
        """No data directory, no database."""
        given = {"name": "s", "models": MODELS, "datasets": ["iris"], "main": main(COMPUTE), **changes}
        with pytest.raises(error) as refused:
            declare(given.pop("name"), data_dir=folder, **given)
        assert sentence in str(refused.value)
        assert not folder.exists()

    def test_a_folder_that_is_none_is_told(self, folder: Path) -> None:
        """A file stands where the data directory should be."""
        folder.touch()
        with pytest.raises(UsageError, match=r"cannot be the data directory \(it is a file\)"):
            declare("s", main=main(COMPUTE), models=MODELS, data_dir=folder)

    def test_no_head_is_told_and_nothing_is_written(self, folder: Path) -> None:
        """Nothing is declared without one: no database is left behind."""
        with pytest.raises(NoHeadError, match=f"No head is running with the data directory {folder}: start one with"):
            declare("s", main=main(COMPUTE), models=MODELS, data_dir=folder)
        assert not folder.exists()


class TestASweepThatExists:
    """`declare` of a name that is in the database."""

    def test_the_same_again_changes_nothing(self, make: Declare, folder: Path, said: list[str]) -> None:
        """With MAIN or without it."""
        make()
        before = stored(folder)
        make()
        make(main=None)
        assert (stored(folder), said) == (before, [])

    def test_additions_are_announced_and_get_trials(self, make: Declare, folder: Path, said: list[str]) -> None:
        """More jobs, a dataset, a model: each a line; numbers go on, finished trials stay."""
        make()
        finish(folder)
        make(jobs_per_pair=3, datasets=["iris", "wine"], models={**MODELS, "knn": {"x": 1.0}})
        assert said == [
            "s: new model: knn",
            "s: new dataset: wine",
            "s: jobs_per_pair was 2 and is now 3",
        ]
        row, trials = stored(folder)
        assert [trial.number for trial in trials] == list(range(12))
        assert trials[0].state is TrialState.COMPLETE
        assert SweepSpec.from_json(row.spec).jobs_per_pair == 3

    def test_contradictions_are_refused_each_on_a_line(self, make: Declare, folder: Path, said: list[str]) -> None:
        """With the ways out; what would have been an addition is not made."""
        make()
        before = stored(folder)
        with pytest.raises(SweepChangedError) as refused:
            make(seed=1, datasets=["wine"], models={"svc": {"x": [1.0]}})
        assert str(refused.value).splitlines() == [
            "the sweep 's' exists and this declaration contradicts it:",
            "  model 'svc': parameter 'x' was [0.25, 0.5] and is now [1.0]",
            "  dataset no longer there: iris",
            "  seed was 0 and is now 1",
            "Undo the change, declare it under another name, or run `raycolab delete s` first.",
        ]
        assert (stored(folder), said) == (before, [])

    def test_a_space_must_fit_the_main_that_is_kept(self, make: Declare) -> None:
        """Also when MAIN is not given again."""
        make()
        with pytest.raises(SpaceError, match="has no parameter 'y' that the space of model 'knn' gives"):
            make(main=None, models={**MODELS, "knn": {"x": 1.0, "y": 1.0}})

    def test_other_code_goes_on_while_nothing_is_finished(self, make: Declare, folder: Path, said: list[str]) -> None:
        """A MAIN that was mended is taken, and what failed with the one before runs again."""
        make()
        finish(folder, TrialState.FAILED)
        make(main=main(COMPUTE.replace("return x", "return 2 * x")))
        row, trials = stored(folder)
        assert "2 * x" in str(row.main)
        assert row.main_version == 2
        assert [trial.state for trial in trials] == [TrialState.PENDING] * 2
        assert said == ["s: MAIN has changed, its version 2 runs from now on; 1 row as they are, 1 run again"]

    def test_a_mended_main_beside_finished_rows_is_refused_with_three_ways(self, make: Declare, folder: Path) -> None:
        """Two results of different code in one table are what somebody chose; each way can be pasted."""
        make()
        finish(folder)
        before = stored(folder)
        with pytest.raises(SweepChangedError) as refused:
            make(main=main(COMPUTE.replace("return x", "return 2 * x")))
        assert str(refused.value) == (
            "The sweep 's' has 1 finished row, and the code or the files of MAIN have changed since. Say what becomes "
            "of them:\n"
            '  they stay, all others run the new MAIN: declare(..., main_changed="keep"), or submit --main-changed '
            "keep\n"
            '  all rows run again: declare(..., main_changed="rerun"), or submit --main-changed rerun\n'
            "  the new MAIN is another sweep: declare it under another name, or submit --set name=ANOTHER"
        )
        assert stored(folder) == before

    @pytest.mark.parametrize(
        ("way", "states"),
        [
            ("keep", [TrialState.COMPLETE, TrialState.PENDING]),
            ("rerun", [TrialState.PENDING, TrialState.PENDING]),
        ],
    )
    def test_a_mended_main_is_taken_the_way_that_was_chosen(
        self, make: Declare, folder: Path, way: str, states: list[TrialState]
    ) -> None:
        """Finished rows stay, or all run again; the choice does nothing where the code is the same."""
        make(main_changed="rerun")
        finish(folder)
        make(main_changed="rerun")
        assert stored(folder)[1][0].state is TrialState.COMPLETE
        make(main=main(COMPUTE.replace("return x", "return 2 * x")), main_changed=way)
        row, trials = stored(folder)
        assert row.main_version == 2
        assert [trial.state for trial in trials] == states

    def test_another_word_for_main_changed_is_refused(self, make: Declare) -> None:
        """Before anything is reached."""
        with pytest.raises(UsageError, match="main_changed is 'yes': give 'keep' or 'rerun'"):
            make(main_changed="yes")

    def test_comments_and_text_are_no_other_code(self, make: Declare, folder: Path) -> None:
        """What workers do not run does not count."""
        make()
        finish(folder)
        notebook = main(COMPUTE + "  # as agreed")
        notebook.cells.insert(0, new_markdown_cell("# Notes"))
        make(main=notebook)


class TestFiles:
    """What travels with MAIN."""

    @pytest.fixture
    def project(self, tmp_path: Path) -> Path:
        """A folder with MAIN and its data."""
        (tmp_path / "project").mkdir()
        (tmp_path / "project" / "MAIN.py").write_text(COMPUTE)
        (tmp_path / "project" / "data.csv").write_text("1")
        return tmp_path / "project"

    def test_they_are_frozen_sent_and_told_with_what_they_cost(
        self, make: Declare, folder: Path, said: list[str], project: Path
    ) -> None:
        """The head has them before the sweep, which names them by what they hold."""
        make(main=project / "MAIN.py", files=["*.csv"])
        files = MainNotebook.from_json(stored(folder)[0].main or "").origin.files
        assert files is not None
        archive = Archives.of(folder).read(files.digest, 0)
        assert (files.count, files.size, files.packed_size) == (1, 1, len(archive))
        assert said == [
            f"s: 1 file, 1 B travel with MAIN, once to each node: {len(archive)} B packed, for each joiner through the "
            "tunnel."
        ]
        with open_store(sqlite_url(folder / "raycolab.db")) as store:
            os.utime(folder / "files" / f"{files.digest}.tar.zst", (1, 1))
            drop_archives(store, Archives.of(folder))
            assert Archives.of(folder).path(files.digest) is not None
            store.delete_sweep("s")
            drop_archives(store, Archives.of(folder))
            assert Archives.of(folder).path(files.digest) is None

    def test_another_content_of_a_file_is_another_main(self, make: Declare, folder: Path, project: Path) -> None:
        """As is a file less; touching one is not."""
        make(main=project / "MAIN.py", files=["*.csv"])
        finish(folder)
        (project / "data.csv").touch()
        make(main=project / "MAIN.py", files=["data.csv"])
        make(main=None)
        with pytest.raises(SweepChangedError, match="the code or the files of MAIN have changed"):
            make(main=project / "MAIN.py")
        (project / "data.csv").write_text("2")
        with pytest.raises(SweepChangedError, match="the code or the files of MAIN have changed"):
            make(main=project / "MAIN.py", files=["*.csv"])
        make(main=project / "MAIN.py", files=["*.csv"], main_changed="keep")
        assert stored(folder)[0].main_version == 2

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            ({"main": None, "files": ["data.csv"]}, "files lie in MAIN's folder: give main too"),
            ({"files": ["/etc/passwd"]}, "files: '/etc/passwd' leads out of MAIN's folder"),
            ({"files": ["a/../../b"]}, "files: 'a/../../b' leads out of MAIN's folder"),
            ({"files": ["none.csv"]}, "files: nothing in MAIN's folder .* is called 'none.csv'"),
            (
                {"files": [3]},
                r"files is a list of file names and patterns, such as \[data/\*.csv, helpers.py\], not \[3\]",
            ),
        ],
    )
    def test_what_cannot_travel_is_refused_before_anything_is_reached(
        self, make: Declare, arguments: dict[str, Any], sentence: str
    ) -> None:
        """With the way out."""
        with pytest.raises(UsageError, match=sentence):
            make(**arguments)


class TestAtAHead:
    """The same answers come from the head while one runs."""

    def test_a_sweep_is_read_through_it(self, make: Declare, folder: Path) -> None:
        """Rows, what a trial printed, and where they are."""
        make()
        finish(folder)
        there = find("s", data_dir=folder)
        expected = there.results, there.logs(0), there.database, repr(there)
        with scripted_head(folder) as head:
            sweep = find("s", data_dir=folder)
            got = sweep.results, sweep.logs(0), sweep.database, repr(sweep)
        assert got[1:] == expected[1:]
        assert (got[0].dataframe.to_csv(), got[0].best) == (expected[0].dataframe.to_csv(), expected[0].best)
        assert len(head.connections) == 1

    def test_many_rows_come_in_pages(self, make: Declare, folder: Path) -> None:
        """All of them, in order; numbers that nothing else holds among them."""
        make(models={"svc": {"x": raycolab.uniform(0, 1)}}, jobs_per_pair=12_000)
        with open_store(sqlite_url(folder / "raycolab.db")) as store:
            row = store.existing_sweep("s")
            first = replace(store.trials(row.id, limit=1)[0], metrics={"metric": 10**400}, state=TrialState.COMPLETE)
            points = [ReportRow(0, step, step / 2) for step in range(11_000)]
            store.write(row.id, [first], [AttemptRow(0, 1, "head", "COMPLETE", 1.0, 2.0)], points)
            stored = store.trials(row.id), store.attempts(row.id), store.reports(row.id)
        with scripted_head(folder) as head:
            results = find("s", data_dir=folder).results
            assert (results.rows, len(results.attempts), results._reports) == (stored[0], 1, stored[2])
        assert sum(isinstance(request, api.ReadRows) for request in head.asked) == 3 + 1 + 3

    def test_a_look_at_a_running_sweep_opens_no_connection(
        self, make: Declare, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A panel that looks twice a second keeps the one it has, and a head that was started again gets a new one."""
        monkeypatch.setattr("raycolab.sweep.POLL_S", 0.0)
        make()
        running = {"nodes": [], "sweeps": [{"name": "s", "state": "RUNNING"}, {"name": "s", "state": "RUNNING"}]}
        looks = 0

        def answer(request: object) -> object:
            nonlocal looks
            if not isinstance(request, api.Status):
                return None
            looks += 1
            return running if looks % 20 else {**running, "sweeps": [{"name": "s", "state": "HELD"}]}

        with scripted_head(folder, answer) as head:
            sweep = find("s", data_dir=folder)
            sweep.wait_status(progress=lambda status, nodes: None)
            assert (looks, len(head.connections)) == (20, 1)
        with scripted_head(folder, answer) as head:
            sweep.wait_status(progress=lambda status, nodes: None)
            assert (looks, len(head.connections)) == (40, 1)

    def test_each_trial_that_has_ended_is_told_once(
        self, make: Declare, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As a row with the data frame's names, while the sweep runs; rows are read only when one more has ended."""
        monkeypatch.setattr("raycolab.sweep.POLL_S", 0.0)
        make()
        finish(folder)
        zeros = dict.fromkeys(["complete", "pruned", "failed", "lost", "cancelled"], 0)
        statuses = iter([("RUNNING", 0), ("RUNNING", 1), ("RUNNING", 1), ("HELD", 1)])

        def answer(request: object) -> object:
            if not isinstance(request, api.Status):
                return None
            state, complete = next(statuses)
            return {"nodes": [], "sweeps": [{"name": "s", "state": state, **zeros, "complete": complete}]}

        told: list[Any] = []
        with scripted_head(folder, answer) as head:
            found = find("s", data_dir=folder).wait(progress=lambda status, nodes: None, on_trial=told.append)
        assert told == [found.best]
        assert sum(isinstance(request, api.ReadRows) and request.table == "trials" for request in head.asked) == 3

    def test_a_sweep_that_was_never_started_is_not_waited_for(self, make: Declare, folder: Path) -> None:
        """It would be for ever."""
        make()
        idle = {"nodes": [], "sweeps": [{"name": "s", "state": "DECLARED"}]}
        with (
            scripted_head(folder, lambda request: idle if isinstance(request, api.Status) else None),
            pytest.raises(ClusterError, match="The sweep 's' is declared, and not at work: start it"),
        ):
            find("s", data_dir=folder).wait(progress=lambda status, nodes: None)

    def test_sweeps_are_listed_with_and_without_a_head(self, make: Declare, folder: Path) -> None:
        """In the order of their declaration; none where there is no database."""
        assert list_sweeps(data_dir=folder / "none") == []
        make(name="first")
        make(name="second")
        with scripted_head(folder):
            asked = list_sweeps(data_dir=folder)
        assert asked == list_sweeps(data_dir=folder)
        assert [each.row.name for each in asked] == ["first", "second"]


class TestFind:
    """A sweep by its name."""

    def test_a_sweep_is_found_with_its_results(self, make: Declare, folder: Path) -> None:
        """As they are now; a line that runs the best again; what a trial printed."""
        make()
        finish(folder)
        sweep = find("s", data_dir=folder)
        assert sweep.results.best is not None
        assert sweep.results.counts()["complete"] == 1
        best = sweep.results.best["config/x"]
        assert (
            sweep.speedup([{"shares_cores": False}]).splitlines()[-1]
            == f'compute(x={best}, model="svc", dataset="iris")'
        )
        assert sweep.logs(0) == "epoch 1"
        assert sweep.logs(1) == ""
        with pytest.raises(UsageError, match="The sweep 's' has no trial 2: give a number from 0 to 1"):
            sweep.logs(2)

    def test_an_unknown_name_is_told_what_there_is(self, make: Declare, folder: Path) -> None:
        """And what was probably meant."""
        make(name="sample")
        with pytest.raises(UnknownSweepError, match=r"no sweep named 'sampel' is in .* \(did you mean 'sample'\?\)"):
            find("sampel", data_dir=folder)

    def test_a_directory_where_nothing_was_is_left_as_it_is(self, folder: Path) -> None:
        """Looking makes no database."""
        with pytest.raises(UnknownSweepError, match=f"nothing was ever submitted with the data directory {folder}"):
            find("s", data_dir=folder)
        assert not folder.exists()

    @pytest.mark.parametrize("name", ["\udcff", "a\nb", "\x1b[2J"])
    def test_a_name_that_no_sweep_can_have_is_not_looked_for(self, make: Declare, folder: Path, name: str) -> None:
        """Nor shown as it is."""
        make()
        with pytest.raises(UnknownSweepError, match="a sweep's name is one printable line") as refused:
            find(name, data_dir=folder)
        assert name not in str(refused.value)


class TestWithoutAHead:
    """What can be asked of a sweep while no head runs."""

    @pytest.mark.parametrize("verb", ["start", "run", "wait", "pause", "resume", "stop", "cancel", "retry"])
    def test_what_needs_a_head_says_so(self, make: Declare, verb: str) -> None:
        """Each in the same words."""
        with pytest.raises(NoHeadError, match=r"No head is running with the data directory .*: start one with"):
            getattr(make(), verb)()

    def test_retry_takes_two_words(self, make: Declare) -> None:
        """Told before a head is looked for."""
        with pytest.raises(
            UsageError, match="retry takes 'failed' or 'lost', not 'all': leave it out for all that did not"
        ):
            make().retry("all")

    def test_delete_needs_none(self, make: Declare, folder: Path) -> None:
        """The name is free again."""
        make().delete()
        with pytest.raises(UnknownSweepError):
            find("s", data_dir=folder)
        make(seed=1)


def test_a_sweep_of_a_notebook_file(folder: Path, tmp_path: Path) -> None:
    """MAIN is frozen: what the file says later does not matter."""
    path = tmp_path / "MAIN.ipynb"
    nbformat.write(main(COMPUTE), path)
    with scripted_head(folder):
        declare("s", main=path, models=MODELS, data_dir=folder)
    path.unlink()
    assert MainNotebook.from_json(stored(folder)[0].main or "").name == "MAIN.ipynb"
