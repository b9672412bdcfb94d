"""`key=value` arguments of the fakes, typed by their defaults."""

import sys
from collections.abc import Sequence
from typing import Any

from robot.core.errors import ConfigError


def keys(defaults: dict[str, Any], arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """The defaults with what the command line says otherwise.

    Raises:
        ConfigError: an unknown key, or a value of another type.
    """
    found = dict(defaults)
    for argument in sys.argv[1:] if arguments is None else arguments:
        key, _, value = argument.partition("=")
        if key not in defaults:
            raise ConfigError(f"there is no key '{key}'; there are {', '.join(f'{k}={v}' for k, v in defaults.items())}")
        try:
            found[key] = type(defaults[key])(value)
        except ValueError as error:
            raise ConfigError(f"{key}={value}: {error}") from error
    return found
