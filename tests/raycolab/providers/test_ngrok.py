"""ngrok before anything starts, and its error codes; `tests/integration/test_ngrok_provider.py` has the rest."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from raycolab.errors import UsageError
from raycolab.providers.ngrok import STILL_ONLINE, NgrokProvider, edge_sentence, ngrok_code, ngrok_sentence
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


def test_a_code_has_a_sentence_that_ends_with_it() -> None:
    """To search for; after the provider has waited for a dead head's address in vain, the person is told to wait."""
    sentence = str(ngrok_sentence(STILL_ONLINE))
    assert "wait a minute" in sentence
    assert sentence.endswith(f" ({STILL_ONLINE})")


def test_an_unknown_code_has_no_sentence() -> None:
    """What is not in the table is not guessed."""
    assert ngrok_sentence("ERR_NGROK_1") is None


def test_the_code_is_found_in_what_the_agent_writes() -> None:
    """Log lines end with the code, with line breaks as backslash and letter."""
    assert ngrok_code(r"authentication failed: bad.\r\n\r\nERR_NGROK_105\r\n") == "ERR_NGROK_105"
    assert ngrok_code("dial tcp: lookup failed") is None


def test_the_edge_names_its_code_in_a_header() -> None:
    """A joiner gets it with the answer that comes in the hub's place."""
    headers = {"content-type": "text/html", "ngrok-error-code": "ERR_NGROK_3200"}
    assert edge_sentence(headers) == ngrok_sentence("ERR_NGROK_3200")


def test_an_unknown_code_of_the_edge_leads_to_its_page() -> None:
    """ngrok has a page for each."""
    sentence = edge_sentence({"ngrok-error-code": "ERR_NGROK_9999"})
    assert sentence is not None
    assert "https://ngrok.com/docs/errors/err_ngrok_9999" in sentence


@pytest.mark.parametrize("headers", [{}, {"server": "nginx"}, {"ngrok-error-code": "<b>"}])
def test_an_answer_that_is_not_ngroks_has_no_sentence(headers: dict[str, str]) -> None:
    """Other things stand before a hub too."""
    assert edge_sentence(headers) is None
