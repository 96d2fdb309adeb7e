"""Colab for tests, see `vm.py`."""

from tests.raycolab.colab.vm import colab_vm

__all__ = ["colab_vm"]
