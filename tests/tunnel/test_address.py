"""The join address: what it says, what it survives on its way, and how damage is told."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnel.address import JoinAddress, unix_url
from tunnel.errors import AddressError

PIN = bytes(range(32))
SECRET = bytes(range(100, 132))
ADDRESS = JoinAddress("wss://abc.ngrok-free.app/hub", PIN, SECRET)

hosts = st.from_regex(r"[a-z][a-z0-9-]{0,20}(\.[a-z]{2,5}){0,2}", fullmatch=True)
network_urls = st.builds(
    lambda scheme, host, port, path: f"{scheme}://{host}{port}{path}",
    st.sampled_from(["ws", "wss"]),
    hosts,
    st.one_of(st.just(""), st.integers(1, 65535).map(lambda port: f":{port}")),
    st.from_regex(r"(/[A-Za-z0-9_.~%-]{1,8}){0,3}", fullmatch=True),
)
unix_paths = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1).map(
    lambda name: "/" + name
)
addresses = st.builds(
    JoinAddress,
    st.one_of(network_urls, unix_paths.map(unix_url)),
    st.binary(min_size=32, max_size=32),
    st.binary(min_size=32, max_size=32),
)


@given(addresses)
def test_parse_gives_back_what_text_says(address: JoinAddress) -> None:
    """Text and parse are each other's reverse."""
    assert JoinAddress.parse(address.text) == address


@pytest.mark.parametrize(
    "around",
    [
        "{}",
        "  {}\n",
        "'{}'",
        '"{}"',
        "`{}`",
        "\u201c{}\u201d",
        "raycolab join '{}' --name x",
        "raycolab join {} --name x",
        "raycolab join {}",
        'raycolab.join("{}")',
        'raycolab.join(address="{}", num_cpus=2)  # paste in five tabs',
        "$ RAYCOLAB_JOIN_ADDRESS={} raycolab join",
        "\ufeff{}\u200b",
    ],
)
def test_what_people_paste_around_an_address_is_dropped(around: str) -> None:
    """Quotes, spaces and a whole command around the address are accepted."""
    assert JoinAddress.parse(around.format(ADDRESS.text)) == ADDRESS


@given(addresses, st.data())
def test_line_breaks_inside_are_dropped(address: JoinAddress, data: st.DataObject) -> None:
    """Terminals and mail wrap long lines: white space anywhere inside changes nothing."""
    text = address.text
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(0, len(text)))
        text = text[:at] + data.draw(st.sampled_from(["\n", "\r\n", " ", "\n    ", "\t", "\u200b"])) + text[at:]
    assert JoinAddress.parse(f"raycolab join '{text}' --name x") == address


@pytest.mark.parametrize("text", ["", "  \n", "''", '""', "\u201c \u201d"])
def test_empty_text_says_that_it_is_empty(text: str) -> None:
    """Nothing pasted is told apart from something wrong."""
    with pytest.raises(AddressError, match=r"^The join address is empty\. Paste the line"):
        JoinAddress.parse(text)


@pytest.mark.parametrize("text", ["hello", "https://abc.ngrok-free.app", "raycolab join", "joiner-1"])
def test_text_without_an_address_says_so(text: str) -> None:
    """A sentence names what an address starts with."""
    with pytest.raises(AddressError, match=r"no join address in this text: it would start with tunnel\+"):
        JoinAddress.parse(text)


@pytest.mark.parametrize(("missing", "count"), [(1, 90), (60, 31), (91, 0), (92, 0), (100, 0)])
def test_cut_address_says_how_much_is_there(missing: int, count: int) -> None:
    """The sentence counts the characters of the token, quotes or not."""
    text = f"raycolab join '{ADDRESS.text[:-missing]}' --name x"
    with pytest.raises(AddressError, match=rf"cut short: {count} of the 91 characters .* Copy the whole line"):
        JoinAddress.parse(text)


@given(addresses, st.data())
def test_one_wrong_character_in_the_token_is_noticed(address: JoinAddress, data: st.DataObject) -> None:
    """A mistyped character of the token never gives another address."""
    start = address.text.index("#") + 1
    at = data.draw(st.integers(start, len(address.text) - 1))
    other = data.draw(st.sampled_from("abcXYZ019-_").filter(lambda c: c != address.text[at]))
    with pytest.raises(AddressError, match="altered on its way"):
        JoinAddress.parse(address.text[:at] + other + address.text[at + 1 :])


@pytest.mark.parametrize("change", [("abc.", "abd."), ("wss:", "ws:"), ("/hub", ""), ("wss:", "ftp:"), ("abc", "a@c")])
def test_wrong_url_is_noticed(change: tuple[str, str]) -> None:
    """The checksum covers the url too, and a url that is none is the same damage."""
    with pytest.raises(AddressError, match="altered on its way"):
        JoinAddress.parse(ADDRESS.text.replace(*change))


@given(st.text())
def test_any_text_gives_an_address_or_an_address_error(text: str) -> None:
    """Whatever is pasted, nothing but AddressError is raised."""
    for candidate in (text, "tunnel+" + text, f"tunnel+{text}#{'A' * 91}"):
        with pytest.raises(AddressError):
            JoinAddress.parse(candidate)


@pytest.mark.parametrize(
    ("given_url", "stored"),
    [
        ("https://abc.ngrok-free.app", "wss://abc.ngrok-free.app"),
        ("http://127.0.0.1:8000/x", "ws://127.0.0.1:8000/x"),
        ("WSS://ABC.example:443/Case", "wss://abc.example:443/Case"),
        ("ws://[::1]:9/", "ws://[::1]:9/"),
    ],
)
def test_http_urls_are_stored_as_websocket_urls(given_url: str, stored: str) -> None:
    """What a provider reports can be given as it is."""
    assert JoinAddress(given_url, PIN, SECRET).url == stored


def test_http_and_upper_case_in_the_text_are_the_same_address() -> None:
    """Chat programs and browsers rewrite scheme and host; the address survives that."""
    text = ADDRESS.text.replace("tunnel+wss://abc", "Tunnel+https://ABC")
    assert JoinAddress.parse(text) == ADDRESS


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ftp://host/",
        "wss://",
        "wss:///path",
        "wss://host:99999/",
        "wss://host:x/",
        "wss://[::1/",
        "wss://user:password@host/",
        "wss://host/#x",
        "wss://host/a b",
        "wss://höst/",
        "unix://relative.sock",
        "unix:///a?b",
        "unix:",
    ],
)
def test_url_that_cannot_be_a_hub_is_refused(url: str) -> None:
    """The sentence names the three forms a url may have."""
    with pytest.raises(AddressError, match=r"it is ws://host:port/path, wss://host/path or unix:///path"):
        JoinAddress(url, PIN, SECRET)


@given(unix_paths)
def test_unix_path_may_hold_any_character(path: str) -> None:
    """Spaces, # and letters beyond ASCII are percent-encoded in the url and come back in the path."""
    assert JoinAddress(unix_url(path), PIN, SECRET).unix_path == path


@pytest.mark.parametrize("shown", [repr(ADDRESS), str(ADDRESS), f"{ADDRESS}"])
def test_only_text_shows_the_secret(shown: str) -> None:
    """Neither repr nor str holds any part of the secret, and all name the url."""
    token = ADDRESS.text.partition("#")[2]
    assert all(token[at : at + 4] not in shown for at in range(42, 86))
    assert repr(SECRET)[2:10] not in shown
    assert ADDRESS.url in shown


def test_errors_repeat_nothing_of_the_text() -> None:
    """An altered address still holds most of the secret, so no error shows it."""
    secret_part = ADDRESS.text[-40:-10]
    for damaged in (ADDRESS.text[:-5] + "AAAAA", ADDRESS.text[:-5], ADDRESS.text.replace("tunnel+", "")):
        with pytest.raises(AddressError) as caught:
            JoinAddress.parse(damaged)
        assert secret_part not in str(caught.value)


def test_layout_of_the_token_is_fixed() -> None:
    """Addresses already handed out stay good: pin, secret, then four bytes of SHA-256 over everything."""
    raw = base64.urlsafe_b64decode(ADDRESS.text.partition("#")[2] + "=")
    assert raw == PIN + SECRET + bytes.fromhex("20773375")
