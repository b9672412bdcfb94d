"""Optional packages, imported where they are used and through one door."""

import importlib
from types import ModuleType

from robot.core.errors import MissingExtraError


def require(module: str, extra: str) -> ModuleType:
    """Import `module`, or raise a MissingExtraError that names the extra to install."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"'{module}' cannot be imported ({error}); install it with: pip install 'tiller[{extra}]'"
        ) from error
