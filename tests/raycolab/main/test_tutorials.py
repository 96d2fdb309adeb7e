"""Ten shapes of public tutorial notebooks, rebuilt small: each runs, or is refused with its cell and what to do."""

from __future__ import annotations

import importlib.util

import pytest

from raycolab.errors import MainError
from raycolab.main.runtime import MainRuntime
from raycolab.trials import Scalar
from tests.raycolab.main.mains import ACCURACY, Load, setup_failure

_HAS_WIDGETS = importlib.util.find_spec("ipywidgets") is not None


def trained(runtime: MainRuntime, **config: Scalar) -> Scalar:
    """What a trial of it measures."""
    runtime.setup()
    outcome = runtime.compute("svc", "iris", config, ACCURACY)
    assert outcome.failure is None, outcome.failure
    return outcome.metrics["accuracy"]


def test_forms_with_param_comments(load: Load) -> None:
    """Colab's forms are comments: what they stand beside are the defaults."""
    runtime = load(
        '#@title Hyperparameters { run: "auto", display-mode: "form" }\n'
        'learning_rate = 0.5 #@param {type:"number"}\n'
        'epochs = 3 #@param {type:"slider", min:1, max:10, step:1}\n'
        'optimizer = "adam" #@param ["adam", "sgd"] {allow-input: true}\n'
        "#@markdown Run this cell first.",
        "def compute(learning_rate=learning_rate):\n    return learning_rate * epochs * (optimizer == 'adam')",
    )
    assert trained(runtime, learning_rate=2.0) == 6.0


def test_installs_under_capture(load: Load) -> None:
    """`%%capture` hides what an install prints, and its name holds it."""
    runtime = load(
        "%%capture installed\n!pip --version\n%pip --version\nimport json",
        "def compute():\n    return installed.stdout.count(' from ') + len(json.dumps([]))",
    )
    assert trained(runtime) == 4


# `x = !command` is not used here: IPython 7.34, which Colab has, does not read it under Python 3.12 and later.


def test_environment_magics(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """`%env` sets for Python and for commands, with values of names."""
    monkeypatch.setenv("BATCH", "")
    runtime = load(
        "%env WORKERS=4\nsize = 8\n%env BATCH={size}\n%set_env DEVICES 0",
        "import os\nseen = get_ipython().getoutput('echo $WORKERS $BATCH $DEVICES')",
        "def compute():\n    return int(os.environ['WORKERS']) + int(seen[0].split()[1])",
    )
    monkeypatch.setenv("WORKERS", "")
    monkeypatch.setenv("DEVICES", "")
    assert trained(runtime) == 12


def test_a_repository_that_is_cloned_and_entered(load: Load) -> None:
    """`!git clone`, `%cd`, an import from there, and a file that compute reads by its name."""
    runtime = load(
        "!git init -q origin && cd origin && echo 'SCALE = 3' > lib_of_tutorial.py && echo 1,2,3 > data.csv"
        " && git add . && git -c user.name=a -c user.email=a@example.org commit -qm start",
        "!git clone -q origin cloned\n%cd cloned\n!ls",
        "import lib_of_tutorial",
        "def compute():\n    return lib_of_tutorial.SCALE * len(open('data.csv').read().split(','))",
    )
    assert trained(runtime) == 9


def test_extensions(load: Load) -> None:
    """`%load_ext storemagic` is IPython's own; one that is missing is named with its cure."""
    runtime = load("%load_ext storemagic\n%matplotlib inline", "def compute(): return 1.0")
    assert trained(runtime) == 1.0
    failure = setup_failure(load("x = 1", "%load_ext extension_of_nobody", "def compute(): return 1.0"))
    assert (failure.ename, failure.cell_index) == ("ModuleNotFoundError", 2)
    assert "`%pip install extension_of_nobody`" in failure.evalue


@pytest.mark.parametrize(
    "cell",
    [
        "import ipywidgets as widgets\nslider = widgets.IntSlider(value=3)\ndisplay(slider)\nfound = slider.value",
        "from ipywidgets import interact\n@interact(x=(0, 10))\ndef show(x=3): print(x)\nfound = 3",
        "from tqdm.notebook import tqdm\nfound = sum(1 for _ in tqdm(range(3)))",
        "from tqdm.auto import trange\nfound = sum(1 for _ in trange(3))",
    ],
)
def test_widgets_and_progress_bars(load: Load, cell: str) -> None:
    """They stand still, with nobody to move them; where ipywidgets is missing the cell is named."""
    main = (cell, "def compute(): return found")
    if _HAS_WIDGETS or "tqdm.auto" in cell:
        assert trained(load(*main)) == 3
    else:
        failure = setup_failure(load(*main))
        assert failure.cell_index == 1
        assert "ipywidgets" in failure.evalue


def test_display_of_everything(load: Load) -> None:
    """Tables, HTML, pictures and what a cell ends with: said as text, kept by nobody."""
    runtime = load(
        "from IPython.display import HTML, Image, Markdown, clear_output, display\nimport pandas as pd",
        "display(HTML('<b>x</b>'), Markdown('# x'))\nclear_output(wait=True)",
        "table = pd.DataFrame({'a': [1, 2]})\ntable",
        "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()\ntable.head(1)",
        "def compute():\n    display(table)\n    return float(table['a'].sum())",
    )
    assert trained(runtime) == 3.0


def test_exercises_that_nobody_has_done(load: Load) -> None:
    """A stub that raises is no harm until it is called; a cell that is no Python, or asserts, is named."""
    stub = "def answer(x):\n    # YOUR CODE HERE\n    raise NotImplementedError()"
    assert trained(load(stub, "todo = ...  # TODO", "def compute(): return 1.0")) == 1.0
    failure = setup_failure(load(stub, "assert answer(1) == 2, 'not yet'", "def compute(): return 1.0"))
    assert (failure.ename, failure.cell_index) == ("NotImplementedError", 2)
    assert "YOUR CODE HERE" in failure.traceback
    unfinished = load(stub, "def exercise(x):\n    # YOUR CODE HERE", "def compute(): return 1.0")
    with pytest.raises(MainError, match=r"cell 2.* is not Python .*`# raycolab: head-only`"):
        unfinished._main.signature()


def test_drive_mounted_at_the_top(load: Load) -> None:
    """Where it is not mounted, the cell is named with both ways on."""
    failure = setup_failure(
        load(
            "#@title Data\nfrom google.colab import drive\ndrive.mount('/content/drive')",
            "def compute(): return 1.0",
        )
    )
    assert failure.cell_index == 1
    assert "run drive.mount('/content/drive') in that tab before it joins" in failure.evalue
    assert "`# raycolab: head-only`" in failure.evalue
    assert (
        trained(
            load(
                "# Reader\n# raycolab: head-only\nfrom google.colab import drive\ndrive.mount('/content/drive')",
                "def compute(): return 1.0",
            )
        )
        == 1.0
    )


def test_a_training_script_written_and_run(load: Load) -> None:
    """`%%writefile`, `!python` on it, `%run`, and what they left is read."""
    runtime = load(
        "%%writefile train_of_tutorial.py\nimport sys\nprint(0.25)\nscore = 0.5",
        "out = get_ipython().getoutput('python train_of_tutorial.py')\n%run train_of_tutorial.py",
        "def compute():\n    return float(out[0]) + score",
    )
    assert trained(runtime) == 0.75
