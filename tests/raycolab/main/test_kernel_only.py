"""What a MAIN written for Colab meets in a worker: calls for the notebook's page, on Colab and elsewhere.

Colab here is the stand-in package of `tests/raycolab/colab`, with a page that answers nobody: a worker is no kernel.
"""

from __future__ import annotations

import builtins
import getpass
import importlib
import sys
from pathlib import Path

import pytest

from raycolab.trials import ErrorKind
from tests.raycolab.colab.vm import ColabVm, colab_vm
from tests.raycolab.main.mains import ACCURACY, COMPUTE, Load, setup_failure

__all__ = ["colab_vm"]


def value_of(load: Load, *cells: str) -> object:
    """What compute returns of `answer`, which these cells make."""
    runtime = load(*cells, "def compute():\n    return {'accuracy': 1.0, 'answer': answer}")
    runtime.setup()
    outcome = runtime.compute("m", "d", {}, ACCURACY)
    assert outcome.failure is None
    return outcome.metrics["answer"]


def test_drive_is_mounted_where_the_notebook_mounted_it(load: Load, colab_vm: ColabVm, tmp_path: Path) -> None:
    """The worker sees the same mount and need not ask for consent."""
    (tmp_path / "drive" / "MyDrive").mkdir(parents=True)
    runtime = load(f"from google.colab import drive\ndrive.mount({str(tmp_path / 'drive')!r})", COMPUTE)
    assert runtime.setup().output.strip() == f"Drive is mounted at {tmp_path / 'drive'}."


def test_a_drive_that_is_not_mounted_fails_with_the_cell_and_the_cure(load: Load, colab_vm: ColabVm) -> None:
    """What the tab has to do before it joins."""
    failure = setup_failure(load("x = 1", "from google.colab import drive\ndrive.mount('/content/drive')", COMPUTE))
    assert failure.cell_index == 2
    assert "Drive is not mounted at /content/drive on this machine" in failure.evalue
    assert "run drive.mount('/content/drive') in that tab before it joins" in failure.evalue
    assert "start cell 2 with `# raycolab: head-only`" in failure.evalue


@pytest.mark.parametrize("importing", ["from google.colab import userdata", "import google.colab.userdata as userdata"])
def test_a_secret_that_was_passed_on_is_given(
    load: Load, colab_vm: ColabVm, monkeypatch: pytest.MonkeyPatch, importing: str
) -> None:
    """Trials have it in their environment."""
    monkeypatch.setenv("HF_TOKEN", "hf")
    assert value_of(load, f"{importing}\nanswer = userdata.get('HF_TOKEN')") == "hf"


def test_another_secret_fails_with_the_way_to_pass_it_on(load: Load, colab_vm: ColabVm) -> None:
    """As Colab's own error for a secret that is not there."""
    failure = setup_failure(load("from google.colab import userdata\nkey = userdata.get('HF_TOKEN')", COMPUTE))
    assert failure.ename == "SecretNotFoundError"
    assert "raycolab.start_head(secrets=['HF_TOKEN'])" in failure.evalue
    assert failure.cell_index == 1


def test_a_main_that_can_do_without_a_secret_does(load: Load, colab_vm: ColabVm) -> None:
    """The error is caught by Colab's own name for it."""
    cell = """
from google.colab import userdata
try:
    answer = userdata.get("HF_TOKEN")
except userdata.SecretNotFoundError:
    answer = "without"
"""
    assert value_of(load, cell) == "without"


@pytest.mark.parametrize(
    ("call", "part"),
    [
        ("from google.colab import files; files.upload()", "files.upload() needs an open notebook page"),
        ("from google.colab import files; files.upload_file('x')", "`!wget`"),
        ("from google.colab import files; files.download('x')", "Return what is to be kept from compute"),
        ("from google.colab import files; files.view('x')", "files.view()"),
        ("from google.colab import auth; auth.authenticate_user()", "in this tab's own notebook, before it joins"),
        ("from google.colab import auth; auth.authenticate_service_account()", "auth.authenticate_service_account()"),
        ("from google.colab import runtime; runtime.unassign()", "end this machine in the middle of the sweep"),
        ("from google.colab import output; output.eval_js('1')", "output.eval_js()"),
        ("from google.colab import drive; drive.flush_and_unmount()", "take Drive from every trial"),
        ("import google.colab; google.colab.files.upload()", "files.upload()"),
        ("from google.colab.files import upload; upload()", "files.upload()"),
        ("name = input('name? ')", "input() needs an open notebook page"),
        ("import getpass; getpass.getpass()", "getpass.getpass() needs an open notebook page"),
    ],
)
def test_what_only_an_open_page_can_do_fails_with_the_cell_and_the_cure(
    load: Load, colab_vm: ColabVm, call: str, part: str
) -> None:
    """No call for the page hangs, ends the VM or fails with Colab's insides."""
    failure = setup_failure(load("x = 1", "y = 2", call, COMPUTE))
    assert failure.ename == "KernelOnlyError"
    assert failure.cell_index == 3
    assert part in failure.evalue
    assert "start cell 3 with `# raycolab: head-only` if workers can do without it" in failure.evalue
    assert colab_vm.log == []


def test_credentials_that_the_notebook_has_got_are_enough(load: Load, colab_vm: ColabVm) -> None:
    """They belong to the VM, and the real call finds them without a page."""
    colab_vm.page(authenticated=True)
    load("from google.colab import auth\nauth.authenticate_user()", COMPUTE).setup()


def test_a_call_in_compute_names_the_function_and_its_cell(load: Load, colab_vm: ColabVm) -> None:
    """head-only would be the wrong cure there."""
    runtime = load("x = 1", "def compute():\n    return float(input('how much? '))")
    runtime.setup()
    failure = runtime.compute("m", "d", {}, ACCURACY).failure
    assert failure is not None
    assert failure.kind is ErrorKind.EXCEPTION
    assert "take it out of compute in cell 2, which workers run" in failure.evalue


@pytest.mark.parametrize(
    "question",
    [
        "answer = 'google.colab' in sys.modules",
        "answer = 'google.colab' in str(get_ipython())",
        "try:\n    import google.colab\n    answer = True\nexcept ImportError:\n    answer = False",
        "import importlib.util\nanswer = bool(importlib.util.find_spec('google.colab'))",
        "import os\nanswer = bool(os.environ.get('COLAB_RELEASE_TAG'))",
    ],
)
def test_a_worker_on_colab_looks_like_colab(load: Load, colab_vm: ColabVm, question: str) -> None:
    """Every way in which notebooks ask has the answer their kernel gets."""
    assert value_of(load, f"import sys\n{question}") is True


def test_google_colab_is_not_loaded_before_it_is_used(load: Load, colab_vm: ColabVm) -> None:
    """It costs seconds, and most MAINs never use it."""
    load(COMPUTE).setup()
    assert "google.colab" in sys.modules
    assert "google.colab.drive" not in sys.modules


@pytest.mark.parametrize(
    "question",
    [
        "try:\n    import google.colab\n    answer = True\nexcept ImportError:\n    answer = False",
        "try:\n    from google.colab import drive\n    answer = True\nexcept ModuleNotFoundError:\n    answer = False",
        "import sys\nanswer = 'google.colab' in sys.modules",
        "answer = 'google.colab' in str(get_ipython())",
    ],
)
def test_a_worker_elsewhere_does_not(load: Load, question: str) -> None:
    """A MAIN that asks whether this is Colab takes its other way."""
    assert value_of(load, question) is False


def test_a_main_for_colab_alone_gets_its_secrets_elsewhere_too(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """It imports google.colab without asking, and a joiner outside Colab was told to pass the secret on."""
    monkeypatch.setenv("HF_TOKEN", "hf")
    assert value_of(load, "from google.colab import userdata\nanswer = userdata.get('HF_TOKEN')") == "hf"


@pytest.mark.parametrize(
    "importing",
    [
        "from google.colab import drive",
        "import google.colab.drive\nfrom google.colab import drive",
        "from google import colab\nfrom google.colab import drive",
    ],
)
def test_a_main_for_colab_alone_fails_elsewhere_with_the_cure(load: Load, importing: str) -> None:
    """Where there is no Drive to mount."""
    failure = setup_failure(load(f"{importing}\ndrive.mount('/content/drive')", COMPUTE))
    assert "Drive is not mounted at /content/drive" in failure.evalue


def test_what_else_google_colab_has_is_not_made_up(load: Load) -> None:
    """A module without an answer is missing, and the cure is not to install it."""
    failure = setup_failure(load("from google.colab import drive\nimport google.colab.widgets", COMPUTE))
    assert failure.ename == "ModuleNotFoundError"
    assert "'google.colab.widgets': it exists only on Colab" in failure.evalue


def test_a_skipped_cell_is_not_asked(load: Load) -> None:
    """What only the head runs says nothing about workers."""
    cells = ("# raycolab: head-only\nfrom google.colab import drive", "import importlib")
    question = "answer = True\ntry:\n    import google.colab\nexcept ImportError:\n    answer = False"
    assert value_of(load, *cells, question) is False


def test_everything_is_as_it_was_after_close(load: Load, colab_vm: ColabVm) -> None:
    """A process that is more than a worker gets its own calls back."""
    own = builtins.input, getpass.getpass, list(sys.meta_path)
    files = importlib.import_module("google.colab.files")
    upload = files.upload
    runtime = load("from google.colab import files, drive", COMPUTE)
    runtime.setup()
    assert files.upload is not upload
    runtime.close()
    assert (builtins.input, getpass.getpass, list(sys.meta_path)) == own
    assert files.upload is upload
    assert importlib.import_module("google.colab.drive").mount.__module__ == "google.colab.drive"


def test_nothing_made_up_is_left_after_close(load: Load) -> None:
    """The next MAIN that asks for google.colab is told the truth."""
    runtime = load("from google.colab import drive", COMPUTE)
    runtime.setup()
    runtime.close()
    with pytest.raises(ImportError):
        importlib.import_module("google.colab")
