# SPDX-License-Identifier: GPL-3.0-or-later
"""The Debusine server that the user's debusine-client is configured for."""

import configparser
import contextlib
import inspect
import io
import logging
from collections.abc import Iterator, Mapping
from typing import Any

from debusine.client import exceptions
from debusine.client.config import ConfigHandler
from debusine.client.debusine import Debusine

from debusine_incus.download import ServerFailed
from incus_testbed import errors

_SETUP = "Run 'debusine setup' to configure debusine-client."


def connect(name: str | None) -> Debusine:
    """Return a client of a server in the configuration, or of the default one.

    :raises errors.NotFound: it is not in the configuration, or not complete
    """
    said = io.StringIO()
    try:
        settings: Any = ConfigHandler(
            server_name=name, stderr=said
        ).server_configuration()
    except SystemExit:
        raise _misconfigured(said.getvalue()) from None
    except (ValueError, OSError, configparser.Error) as error:
        raise _misconfigured(str(error)) from None
    if isinstance(settings, Mapping):  # as in Debusine 0.11
        url, token = settings["api-url"], settings["token"]
        scope = settings["scope"]
    else:
        url, token, scope = (
            settings.api_url,
            settings.api_token,
            settings.scope,
        )
    return Debusine(url, token, scope, logger=logging.getLogger(__name__))


def knows_workspaces(api: Debusine) -> bool:
    """Tell whether a workspace can be named where an artifact is asked for."""
    return "workspace" in inspect.signature(api.artifact_get).parameters


@contextlib.contextmanager
def asked_for(what: str, api: Debusine) -> Iterator[None]:
    """Have a failure of the block say what the server was asked for.

    :raises ServerFailed: it has no such thing, refuses it, or is not there
    """
    try:
        yield
    except exceptions.DebusineError as error:
        problem = error.asdict()
        raise _refused(
            what, api, f"{problem.get('title')} {problem.get('detail') or ''}"
        ) from error
    except exceptions.NotFoundError as error:
        raise _refused(what, api, str(error)) from error
    except exceptions.ClientForbiddenError as error:
        # Its message shows the token.
        raise ServerFailed(
            f"{api.base_api_url} refuses your token", resolution=_SETUP
        ) from error
    except exceptions.ClientConnectionError as error:
        raise ServerFailed(
            f"{api.base_api_url} can't be reached",
            details=str(error),
            resolution="Is it the right server? --server NAME chooses another.",
        ) from error
    except exceptions.UnexpectedResponseError as error:
        raise ServerFailed(
            f"{api.base_api_url} gave an answer that debusine-client doesn't"
            " understand",
            details=str(error),
        ) from error


def _misconfigured(said: str) -> errors.NotFound:
    return errors.NotFound(
        "There is no usable configuration of debusine-client",
        details=said,
        resolution=_SETUP,
    )


def _refused(what: str, api: Debusine, reason: str) -> ServerFailed:
    return ServerFailed(
        f"{api.base_api_url} has no {what} that you may see",
        details=reason,
        resolution="Is it the right server? --server NAME chooses another.",
    )
