"""Whether this is Colab, which notebook of it, and giving its VM back."""

from __future__ import annotations

import os

import pytest

from raycolab.colab import is_colab, release_runtime, same_notebook, this_notebook
from raycolab.errors import ClusterError
from tests.raycolab.colab.vm import ColabVm


def test_colab_is_its_package_and_its_environment(colab_vm: ColabVm) -> None:
    """Both are there on a VM of Colab; anybody may have one of them."""
    assert is_colab(os.environ)
    assert not is_colab({"HOME": "/root"})


def test_without_the_package_there_is_nothing_to_ask() -> None:
    """Whatever the environment says."""
    assert not is_colab({"COLAB_RELEASE_TAG": "r"})


def test_a_process_that_is_no_kernel_is_no_notebook(colab_vm: ColabVm) -> None:
    """A command in a cell (`!raycolab ...`) has no page."""
    assert this_notebook(os.environ) is None


@pytest.mark.parametrize(
    ("kernels", "paths", "is_same"),
    [
        (("kernel-1", "kernel-1"), ("", ""), True),
        (("kernel-1", "kernel-2"), ("/content/fileId=abc", "/content/fileId=abc"), True),
        (("kernel-1", "kernel-2"), ("/content/fileId=abc", "/content/fileId=xyz"), False),
        (("kernel-1", "kernel-2"), ("", ""), False),
    ],
    ids=["restarted", "a new kernel of the file", "another file", "nobody says which file"],
)
def test_a_notebook_is_known_by_its_kernel_or_its_file(
    colab_vm: ColabVm, kernels: tuple[str, str], paths: tuple[str, str], is_same: bool
) -> None:
    """Jupyter keeps a kernel's id and file when it is restarted; after a kernel died for good the file tells."""
    found = []
    for kernel, path in zip(kernels, paths, strict=True):
        colab_vm.kernel(f"{kernel}.json", path=path)
        found.append(this_notebook(os.environ))
    assert found[0] == {"kernel": kernels[0], "path": paths[0]}
    assert same_notebook(found[0], found[1]) is is_same


def test_a_process_that_is_no_kernel_may_be_any_notebook(colab_vm: ColabVm) -> None:
    """Nobody is refused for want of knowledge."""
    colab_vm.kernel()
    assert same_notebook(None, this_notebook(os.environ))
    assert same_notebook(this_notebook(os.environ), None)


def test_the_vm_is_given_back(colab_vm: ColabVm) -> None:
    """By Colab's own call."""
    colab_vm.kernel()
    release_runtime()
    assert colab_vm.log == ["unassign"]


def test_a_vm_that_stays_is_one_sentence_with_the_menu(colab_vm: ColabVm, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Colab's service does not take it, the person can."""
    monkeypatch.delenv("TBE_RUNTIME_ADDR")
    with pytest.raises(ClusterError, match="Runtime > Disconnect and delete runtime"):
        release_runtime()
