# SPDX-License-Identifier: GPL-3.0-or-later
"""Connect to a Debusine server with the configuration of debusine-client."""

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
    """Return a client of a configured server, by default of the default one.

    :raises errors.NotFound: it is not configured, or not completely
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
    """Tell whether a request for an artifact can name its workspace."""
    return "workspace" in inspect.signature(api.artifact_get).parameters


@contextlib.contextmanager
def asked_for(what: str, api: Debusine) -> Iterator[None]:
    """Make failures of the block name the object of the request.

    :raises ServerFailed: the server has no such object, refuses it, or can't
        be reached
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
            resolution="Check the server; --server NAME chooses another.",
        ) from error
    except exceptions.UnexpectedResponseError as error:
        raise ServerFailed(
            f"{api.base_api_url} gave an answer that debusine-client doesn't"
            " understand",
            details=str(error),
        ) from error


def _misconfigured(said: str) -> errors.NotFound:
    return errors.NotFound(
        "debusine-client has no usable configuration",
        details=said,
        resolution=_SETUP,
    )


def _refused(what: str, api: Debusine, reason: str) -> ServerFailed:
    return ServerFailed(
        f"{api.base_api_url} has no {what} that you may see",
        details=reason,
        resolution="Check the server; --server NAME chooses another.",
    )
