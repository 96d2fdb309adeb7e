"""The ngrok authtoken and the secrets for trials: from the environment, Colab's secrets, or a prompt, read once.

They come back as environment variables for the supervisor that is about to be started. Nothing here writes them down.
"""

from __future__ import annotations

import getpass
import importlib
import re
import sys
from collections.abc import Callable, Mapping, Sequence

from raycolab.colab.environment import has_kernel, is_colab
from raycolab.errors import UsageError
from raycolab.providers import TOKEN_PAGE, TOKEN_VARIABLE

__all__ = ["alone_text", "credentials", "take_secrets"]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPEN_SECRETS = "click the key on the left of the notebook (Secrets)"


def credentials(
    provider: str,
    secrets: Sequence[str],
    environ: Mapping[str, str],
    ask: Callable[[str], str] = getpass.getpass,
) -> dict[str, str]:
    """What a head's environment needs on top of `environ`: the ngrok authtoken, where there is one, and `secrets`.

    The token is looked for where `provider` is ngrok or auto; asked for (with `ask`) only where it is ngrok and a
    person can answer. UsageError with the cure for what Colab does not give out, and for a secret that is nowhere.
    """
    taken = take_secrets(secrets, environ)
    if provider in ("auto", "ngrok"):
        token = _ngrok_token(environ)
        if not token and provider == "ngrok":
            token = _asked(ask)
        if token:
            taken[TOKEN_VARIABLE] = token
    return taken


def alone_text(provider: str, environ: Mapping[str, str], taken: Mapping[str, str]) -> str:
    """What to say on Colab when `auto` found no token among what `credentials` took: nobody can dial this VM."""
    if provider != "auto" or TOKEN_VARIABLE in taken or not is_colab(environ):
        return ""
    place = _OPEN_SECRETS if has_kernel() else "in the notebook, click the key on the left (Secrets)"
    return (
        f"{TOKEN_VARIABLE} is neither in the environment nor in Colab's secrets, so no other tab can join: this one"
        f" works alone. To let others join: {place}, add {TOKEN_VARIABLE} with the token from {TOKEN_PAGE}, switch on"
        " its Notebook access, run head.shutdown() and start the head again."
    )


def take_secrets(names: Sequence[str], environ: Mapping[str, str]) -> dict[str, str]:
    """Each secret's value by its name, from `environ` or Colab's secrets; UsageError for one that is in neither."""
    return {name: _secret(name, environ) for name in _checked(names)}


def _checked(names: Sequence[str]) -> Sequence[str]:
    if isinstance(names, str):
        raise UsageError(f"secrets is a list of names: write secrets=[{names!r}].")
    for name in names:
        if not (isinstance(name, str) and _NAME.fullmatch(name)):
            raise UsageError(
                f"{name!r} cannot be the name of a secret: trials get it as an environment variable, so it has"
                " letters, digits and underscores alone, as HF_TOKEN has."
            )
    return names


def _secret(name: str, environ: Mapping[str, str]) -> str:
    if name in environ:
        return environ[name]
    value = _colab_secret(name, environ)
    if value is not None:
        return value
    places = "this process's environment"
    cure = f'set it (os.environ[{name!r}] = "...")'
    if is_colab(environ):
        places += " nor in Colab's secrets"
        cure = f"{_OPEN_SECRETS}, add {name} and switch on its Notebook access" if has_kernel() else cure
    raise UsageError(f"The secret {name!r} is not in {places}: {cure}, then run this again.")


def _ngrok_token(environ: Mapping[str, str]) -> str:
    return environ.get(TOKEN_VARIABLE, "").strip() or (_colab_secret(TOKEN_VARIABLE, environ) or "").strip()


def _asked(ask: Callable[[str], str]) -> str:
    """What a person types, "" where nobody can; the provider then says what is missing."""
    if not (has_kernel() or (sys.stdin is not None and sys.stdin.isatty())):
        return ""
    try:
        return ask(f"ngrok authtoken (from {TOKEN_PAGE}; nothing is shown): ").strip()
    except (NotImplementedError, EOFError, KeyboardInterrupt):  # a page that cannot ask, as under nbclient; no answer
        return ""


def _colab_secret(name: str, environ: Mapping[str, str]) -> str | None:
    """A secret of this notebook's, None where Colab has none of that name; UsageError when it is not given out."""
    if not (is_colab(environ) and has_kernel()):
        return None  # only a kernel can ask its page
    userdata, errors = (importlib.import_module(f"google.colab.{name}") for name in ("userdata", "errors"))
    try:
        return str(userdata.get(name))
    except userdata.SecretNotFoundError:
        return None
    except userdata.NotebookAccessError as error:
        raise UsageError(
            f"Colab has a secret {name} and this notebook may not read it: {_OPEN_SECRETS}, switch on Notebook access"
            f" beside {name}, and run this cell again."
        ) from error
    except userdata.TimeoutException as error:
        raise UsageError(
            f"Colab did not answer within 10 s when asked for the secret {name}, as it does where nobody has the"
            " notebook open: keep its page open and run this cell again, or set"
            f' os.environ[{name!r}] = "..." before it.'
        ) from error
    except errors.Error as error:
        raise UsageError(
            f"Colab's page could not give the secret {name} ({type(error).__name__}): reload the page and run this"
            f' cell again, or set os.environ[{name!r}] = "..." before it.'
        ) from error
