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


def test_a_restarted_kernel_is_the_same_notebook(colab_vm: ColabVm) -> None:
    """Jupyter keeps a kernel's id and file when it is restarted."""
    colab_vm.kernel("kernel-1.json", path="")
    before = this_notebook(os.environ)
    assert before == {"kernel": "kernel-1", "path": ""}
    assert same_notebook(before, this_notebook(os.environ))


def test_a_new_kernel_of_the_same_file_is_the_same_notebook(colab_vm: ColabVm) -> None:
    """After a kernel died for good the file tells."""
    colab_vm.kernel("kernel-1.json", path="/content/fileId=abc")
    before = this_notebook(os.environ)
    colab_vm.kernel("kernel-2.json", path="/content/fileId=abc")
    assert same_notebook(before, this_notebook(os.environ))


@pytest.mark.parametrize("path", ["", "/content/fileId=xyz"])
def test_another_kernel_of_another_file_is_another_notebook(colab_vm: ColabVm, path: str) -> None:
    """Also where neither says which file it is of."""
    colab_vm.kernel("kernel-1.json", path=path and "/content/fileId=abc")
    before = this_notebook(os.environ)
    colab_vm.kernel("kernel-2.json", path=path)
    assert not same_notebook(before, this_notebook(os.environ))


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
