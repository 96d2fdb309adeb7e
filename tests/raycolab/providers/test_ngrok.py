"""The ngrok provider before anything starts; `tests/integration/test_ngrok_provider.py` has the rest."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from raycolab.errors import UsageError
from raycolab.providers.ngrok import NgrokProvider
from tests.in_loop import in_loop
from tunnel.listen import TcpListen


def ngrok(run_dir: Path, token: str = "t", url: str | None = None) -> NgrokProvider:
    """A provider whose agent would be /bin/true."""
    return NgrokProvider(token=token, run_dir=run_dir, url=url, remembered={}, agent_path=Path("/bin/true"))


def modes_in(folder: Path) -> dict[str, int]:
    """The files in a folder and who may read them."""
    return {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}


def test_a_missing_token_says_where_one_is(tmp_path: Path) -> None:
    """Without a token nothing is tried."""
    with pytest.raises(UsageError, match=r"get-started/your-authtoken into the environment variable NGROK_AUTHTOKEN"):
        ngrok(tmp_path, token="")


def test_a_url_that_is_no_address_is_refused(tmp_path: Path) -> None:
    """--url is checked before the agent starts."""
    with pytest.raises(UsageError, match="give the address joiners dial"):
        ngrok(tmp_path, url="my domain")


@in_loop
async def test_preparing_writes_the_token_for_this_user_alone(tmp_path: Path) -> None:
    """The token is in one file of mode 0600, and the launcher has none of it."""
    provider = ngrok(tmp_path, token="2aSecret")
    assert await provider.prepare() == TcpListen("127.0.0.1", 0)
    assert modes_in(tmp_path) == {"ngrok.yml": 0o600, "ngrok": 0o700}
    assert "authtoken: 2aSecret\n" in (tmp_path / "ngrok.yml").read_text()
    assert "2aSecret" not in (tmp_path / "ngrok").read_text()


@in_loop
async def test_closing_what_never_opened_removes_the_token(tmp_path: Path) -> None:
    """A head that fails between prepare and open leaves no token behind."""
    provider = ngrok(tmp_path)
    await provider.prepare()
    await provider.close()
    assert modes_in(tmp_path) == {}
    assert provider.remember() == {}


def test_importing_the_providers_imports_no_pyngrok() -> None:
    """pyngrok is loaded where an agent starts, and nowhere else."""
    code = "import sys, raycolab.providers; sys.exit('pyngrok' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
