"""The ngrok provider against the real pyngrok and the stand-in agent of `ngrok_agent.py`.

What passes here passed with a stand-in: it shows what we and pyngrok do, not what ngrok's service does.
"""

from __future__ import annotations

import asyncio
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import psutil
import pytest
import websockets
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from raycolab.errors import ClusterError, RaycolabError, UsageError
from raycolab.providers import choose_provider, ngrok_sentence
from raycolab.providers.ngrok import NgrokProvider
from tests.in_loop import in_loop
from tests.integration.sessions import words_of
from tunnel.listen import TcpListen

AGENT = Path(__file__).with_name("ngrok_agent.py")
TOKEN = "2aStandIn0Token0That0No0Log0May0Show_7xyz"
Make = Callable[..., NgrokProvider]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes providers whose agent is the stand-in; STANDIN_NGROK_ variables are given as keywords in lower case."""
    monkeypatch.setenv("NGROK_AUTHTOKEN", TOKEN)  # as on a person's machine, where pyngrok would find it
    run_dir = tmp_path / "run"
    run_dir.mkdir(mode=0o700)

    def provider(
        *,
        remembered: dict[str, str] | None = None,
        url: str | None = None,
        start_timeout_s: int = 5,
        online_patience_s: float = 0.0,
        **script: str,
    ) -> NgrokProvider:
        settings = "".join(
            f"export STANDIN_NGROK_{name.upper()}={shlex.quote(value)}\n" for name, value in script.items()
        )
        agent = tmp_path / "agent"
        agent.write_text(f'#!/bin/sh\n{settings}exec {shlex.quote(sys.executable)} {shlex.quote(str(AGENT))} "$@"\n')
        agent.chmod(0o755)
        return NgrokProvider(
            token=TOKEN,
            run_dir=run_dir,
            url=url,
            remembered=remembered or {},
            agent_path=agent,
            start_timeout_s=start_timeout_s,
            online_patience_s=online_patience_s,
        )

    return provider


@asynccontextmanager
async def echo_hub() -> AsyncIterator[TcpListen]:
    """A WebSocket server that sends every message back, in the hub's place."""

    async def echo(socket: ServerConnection) -> None:
        async for message in socket:
            await socket.send(message)

    async with serve(echo, "127.0.0.1", 0, max_size=None) as server:
        yield TcpListen("127.0.0.1", next(iter(server.sockets)).getsockname()[1])


def agents() -> list[psutil.Process]:
    """The agents this process has started and that still run."""
    return [child for child in psutil.Process().children(recursive=True) if str(AGENT) in words_of(child)]


def files_with_the_token(folder: Path) -> list[Path]:
    """Every file under `folder` that holds the token."""
    return [path for path in folder.rglob("*") if path.is_file() and TOKEN in path.read_text()]


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what another process does, 5 s at most."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.05)


async def failure_of(provider: NgrokProvider) -> RaycolabError:
    """What starting this provider raises; nothing of it may stay behind."""

    async def start() -> None:
        await provider.prepare()
        await provider.open(TcpListen("127.0.0.1", 9))

    with pytest.raises(RaycolabError) as caught:
        await start()
    await provider.close()
    assert agents() == []
    assert TOKEN not in str(caught.value)
    assert caught.value.__cause__ is None
    return caught.value


@in_loop
async def test_a_websocket_goes_through_the_endpoint(make: Make) -> None:
    """Joiners reach the hub through the URL that `open` gives, large messages included."""
    provider = make()
    assert await provider.prepare() == TcpListen("127.0.0.1", 0)
    async with echo_hub() as hub:
        url = await provider.open(hub)
        assert url.startswith("ws://127.0.0.1:")
        assert url != f"ws://{hub}"
        async with connect(url, max_size=None) as socket:
            await socket.send(bytes(3_000_000))
            assert await socket.recv() == bytes(3_000_000)
        await provider.close()
    assert agents() == []


@in_loop
async def test_the_token_is_in_no_argv_and_no_readable_file(
    make: Make, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Only a file of mode 0600 holds the token: no command line, no environment of the agent, no log."""
    provider = make()
    await provider.prepare()
    await provider.open(TcpListen("127.0.0.1", 9))
    (agent,) = agents()
    assert TOKEN not in " ".join(agent.cmdline())
    assert TOKEN not in agent.environ().values()
    holding = files_with_the_token(tmp_path)
    assert [stat.S_IMODE(path.stat().st_mode) for path in holding] == [0o600]
    await provider.close()
    assert not holding[0].exists()
    captured = capfd.readouterr()
    assert TOKEN not in captured.out + captured.err + caplog.text


@in_loop
async def test_a_killed_agent_is_noticed_and_can_be_started_again(make: Make) -> None:
    """`wait_lost` says that the agent ended, and `open` brings the same URL back."""
    provider = make()
    await provider.prepare()
    async with echo_hub() as hub:
        url = await provider.open(hub)
        lost = asyncio.create_task(provider.wait_lost())
        await asyncio.sleep(0)
        assert not lost.done()
        agents()[0].send_signal(signal.SIGKILL)
        reason = await asyncio.wait_for(lost, 10)
        assert reason == "The ngrok agent ended (exit status -9): joiners cannot get through until it is started again."
        assert await provider.open(hub) == url
        async with connect(url) as socket:
            await socket.send("again")
            assert await socket.recv() == "again"
        await provider.close()


@in_loop
async def test_an_agent_that_ends_by_itself_is_noticed(make: Make) -> None:
    """`wait_lost` also returns for an agent that nobody killed."""
    provider = make(die_after_s="0.5")
    await provider.prepare()
    await provider.open(TcpListen("127.0.0.1", 9))
    assert "exit status 1" in await asyncio.wait_for(provider.wait_lost(), 10)
    await provider.close()


@in_loop
async def test_a_restarted_head_has_the_same_url(make: Make) -> None:
    """What `remember` gives brings the next provider to the same URL."""
    first = make()
    await first.prepare()
    url = await first.open(TcpListen("127.0.0.1", 9))
    await first.close()
    second = make(remembered=first.remember())
    await second.prepare()
    assert await second.open(TcpListen("127.0.0.1", 9)) == url
    await second.close()


@in_loop
async def test_a_remembered_domain_that_is_gone_gives_way_to_a_new_one(make: Make) -> None:
    """A domain of another account is not insisted on when nobody asked for it."""
    provider = make(remembered={"domain": "somebody-else.ngrok.app"})
    await provider.prepare()
    assert (await provider.open(TcpListen("127.0.0.1", 9))).startswith("ws://127.0.0.1:")
    await provider.close()


@in_loop
async def test_a_domain_that_was_asked_for_is_insisted_on(make: Make) -> None:
    """With --url a domain that the account does not own is an error."""
    error = await failure_of(make(url="https://somebody-else.ngrok.app"))
    assert str(error) == ngrok_sentence("ERR_NGROK_320")


@in_loop
async def test_an_address_that_is_online_elsewhere_is_an_error(make: Make) -> None:
    """The address of a live head is refused as ngrok does, and the sentence says whose turn it is."""
    async with echo_hub() as somebody:
        error = await failure_of(make(remembered={"domain": str(somebody)}))
    assert str(error) == ngrok_sentence("ERR_NGROK_334")


@in_loop
async def test_the_address_of_a_head_that_just_died_is_waited_for(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """ngrok frees it when it has noticed; the same address comes back, by the same agent."""
    caplog.set_level("INFO", "raycolab.ngrok")
    async with AsyncExitStack() as dead:
        former = await dead.enter_async_context(echo_hub())
        provider = make(remembered={"domain": str(former)}, online_patience_s=20.0)
        await provider.prepare()
        opening = asyncio.create_task(provider.open(TcpListen("127.0.0.1", 9)))
        await until(lambda: "still online" in caplog.text)
        (agent,) = agents()
    assert await opening == f"ws://{former}"
    assert agents() == [agent]
    await provider.close()


@in_loop
async def test_an_agent_that_dies_while_its_address_is_waited_for_is_an_error(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody waits for an agent that is gone."""
    caplog.set_level("INFO", "raycolab.ngrok")
    provider = make(error="ERR_NGROK_334", online_patience_s=60.0)
    await provider.prepare()
    opening = asyncio.create_task(provider.open(TcpListen("127.0.0.1", 9)))
    await until(lambda: "still online" in caplog.text)
    agents()[0].kill()
    with pytest.raises(ClusterError, match="The ngrok agent ended"):
        await asyncio.wait_for(opening, 20)
    assert agents() == []
    await provider.close()


@pytest.mark.parametrize("number", [105, 107, 108, 121, 334, 8013])
@in_loop
async def test_each_refusal_has_its_sentence(
    make: Make, number: int, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """What ngrok refuses at the start reaches the person as the table's sentence, the token nowhere."""
    caplog.set_level("DEBUG")
    code = f"ERR_NGROK_{number}"
    error = await failure_of(make(error=code))
    assert type(error) is ClusterError
    assert str(error) == ngrok_sentence(code)
    captured = capfd.readouterr()
    assert TOKEN not in captured.out + captured.err + caplog.text


@in_loop
async def test_a_code_that_is_not_in_the_table_names_ngroks_page(make: Make) -> None:
    """An unknown code leads to the page that explains it, and no code at all to the page of its troubles."""
    assert "https://ngrok.com/docs/errors/err_ngrok_106" in str(await failure_of(make(error="ERR_NGROK_106")))
    assert str(await failure_of(make(error="none"))) == (
        "The ngrok agent gave no address in time, and no reason: look at https://status.ngrok.com, then start the head"
        " again."
    )


@pytest.mark.parametrize("number", [725, 727, 734, 3200])
@in_loop
async def test_a_joiner_can_tell_what_the_edge_refused(make: Make, number: int) -> None:
    """The edge's refusals come as a header of the answer to the WebSocket handshake."""
    provider = make(error=f"ERR_NGROK_{number}")
    await provider.prepare()
    async with echo_hub() as hub:
        url = await provider.open(hub)
        with pytest.raises(websockets.InvalidStatus) as caught:
            await connect(url).__aenter__()
        assert ngrok_sentence(caught.value.response.headers["Ngrok-Error-Code"]) is not None
        await provider.close()


@in_loop
async def test_a_hub_that_does_not_listen_is_8012(make: Make) -> None:
    """Nothing behind the tunnel is told apart from no tunnel."""
    provider = make()
    await provider.prepare()
    async with echo_hub() as hub:
        pass
    url = await provider.open(hub)
    with pytest.raises(websockets.InvalidStatus) as caught:
        await connect(url).__aenter__()
    assert caught.value.response.headers["Ngrok-Error-Code"] == "ERR_NGROK_8012"
    await provider.close()


@in_loop
async def test_no_way_out_is_said(make: Make) -> None:
    """Without internet the agent tries for ever; the head does not."""
    error = await failure_of(make(offline="1"))
    assert str(error).startswith("The ngrok agent could not reach ngrok's service: check that this session reaches")
    assert "connect.ngrok-agent.com" in str(error)


@pytest.mark.slow  # npm brings 14 MB
@in_loop
async def test_the_real_agent_without_internet_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ngrok's own agent, the version 2 that npm has, under the real pyngrok: the token stays where it was put."""
    if shutil.which("npm") is None:
        pytest.skip("npm brings ngrok's agent, and there is none here")
    got = await asyncio.create_subprocess_exec(
        *("npm", "pack", "@expo/ngrok-bin-linux-x64"), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    name, said = await got.communicate()
    assert got.returncode == 0, said
    with tarfile.open(tmp_path / name.decode().split()[-1]) as archive:
        archive.extract("package/ngrok", tmp_path, filter="data")
    agent = tmp_path / "alone"  # it resolves names by itself, so a proxy that leads nowhere would not keep it in
    agent.write_text(f'#!/bin/sh\nexec unshare --map-root-user --net {tmp_path}/package/ngrok "$@"\n')
    agent.chmod(0o755)
    run_dir = tmp_path / "run"
    run_dir.mkdir(mode=0o700)
    provider = NgrokProvider(token=TOKEN, run_dir=run_dir, url=None, remembered={}, agent_path=agent, start_timeout_s=5)
    error = await failure_of(provider)
    assert str(error).startswith("The ngrok agent could not reach ngrok's service: check that this session reaches")


@in_loop
async def test_an_agent_without_the_endpoints_api_is_said(make: Make) -> None:
    """An agent that pyngrok waits for in vain, because it is too old, is ended and named."""
    error = await failure_of(make(old="1"))
    assert "is too old for pyngrok (it needs 3.30 or newer)" in str(error)


@in_loop
async def test_a_program_that_is_no_agent_is_said(make: Make, tmp_path: Path) -> None:
    """PYNGROK_NGROK_PATH may name anything."""
    provider = make()
    (tmp_path / "agent").write_text("#!/bin/sh\nexit 7\n")
    error = await failure_of(provider)
    assert f"The ngrok agent {tmp_path}/agent ended or stayed silent" in str(error)


@in_loop
async def test_a_path_without_a_program_is_a_usage_error(make: Make, tmp_path: Path) -> None:
    """A PYNGROK_NGROK_PATH that leads nowhere is told before anything starts."""
    provider = make()
    (tmp_path / "agent").unlink()
    assert type(await failure_of(provider)) is UsageError


@in_loop
async def test_a_missing_agent_without_internet_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pyngrok's download fails as one sentence, in a process whose proxy leads nowhere."""
    from pyngrok import conf

    monkeypatch.setattr(conf, "DEFAULT_NGROK_PATH", str(tmp_path / "absent" / "ngrok"))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    provider = choose_provider(
        "ngrok", listen=None, url=None, environ={"NGROK_AUTHTOKEN": TOKEN}, remembered={}, run_dir=tmp_path
    )
    with pytest.raises(ClusterError, match="is not on this machine and could not be downloaded: check that"):
        await provider.prepare()


@in_loop
async def test_a_start_that_is_given_up_leaves_no_agent(make: Make) -> None:
    """Cancelling `open`, as Ctrl-C does, ends the agent that was starting."""
    provider = make(offline="1", start_timeout_s=60)
    await provider.prepare()
    opening = asyncio.create_task(provider.open(TcpListen("127.0.0.1", 9)))
    await until(lambda: any(agent.net_connections() for agent in agents()))
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    await provider.close()
    await until(lambda: agents() == [])
