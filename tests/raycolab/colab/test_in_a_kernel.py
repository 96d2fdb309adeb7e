"""The same in real kernels with the stand-in google.colab: what a kernel knows of itself, and who can be asked."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

from raycolab.colab import same_notebook
from tests.raycolab.colab.vm import STAND_IN, ColabVm

CODE = """
import os
from raycolab.colab import credentials, is_colab, this_notebook
(is_colab(os.environ), credentials("ngrok", [], os.environ), this_notebook(os.environ))
"""


def value_of(client: BlockingKernelClient, code: str) -> Any:
    """What a cell's last line is."""
    values: list[str] = []

    def take(message: dict[str, object]) -> None:
        content = message["content"]
        assert isinstance(content, dict)
        assert message["msg_type"] != "error", content
        if message["msg_type"] == "execute_result":
            values.append(content["data"]["text/plain"])

    client.execute_interactive(code, timeout=60, output_hook=take, allow_stdin=False)
    return ast.literal_eval(values[0])


@contextmanager
def kernel(vm: ColabVm) -> Iterator[tuple[KernelManager, BlockingKernelClient]]:
    """A kernel of the VM."""
    manager = KernelManager()
    path = os.pathsep.join([str(STAND_IN), *filter(None, [os.environ.get("PYTHONPATH")])])
    manager.start_kernel(env={**os.environ, **vm.environ, "PYTHONPATH": path})
    client = manager.blocking_client()
    try:
        client.start_channels()
        client.wait_for_ready(timeout=60)
        yield manager, client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


@pytest.mark.timeout(120)
def test_a_kernel_has_its_secrets_and_knows_itself_again(colab_vm: ColabVm) -> None:
    """The token comes from Colab's secrets; a page that cannot ask is no token; a restart keeps the notebook."""
    colab_vm.secret("NGROK_AUTHTOKEN", "2aToken")
    with kernel(colab_vm) as (manager, client):
        is_colab, taken, first = value_of(client, CODE)
        assert (is_colab, taken) == (True, {"NGROK_AUTHTOKEN": "2aToken"})
        assert first["kernel"]
        manager.restart_kernel(now=True)
        client.wait_for_ready(timeout=60)
        colab_vm.page()
        _, taken, again = value_of(client, CODE)
        assert (taken, again) == ({}, first)
        with kernel(colab_vm) as (_, another):
            _, _, other = value_of(another, CODE)
            assert not same_notebook(first, other)
