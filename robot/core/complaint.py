"""What went wrong while a config was composed, in one line: the key, the nearest match, what is accepted."""

import difflib
import re
from collections.abc import Iterable
from typing import Any, cast

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from robot.core import paths


def complaint(error: Exception, config_name: str, overrides: list[str]) -> str:
    """One line for an error of Hydra or OmegaConf raised while `config_name` was composed with `overrides`."""
    if isinstance(error, OverrideParseException):
        return f"'{error.override}' is not an override; write key=value, for example trainer.steps=100 or policy=navdp"
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        return f"{group or 'config'}: there is no '{name}'{_accepted(name, error.options or [])}"
    text = str(error)
    if found := re.search(r"Could not override '([^']+)'", text):
        return _unknown(found[1], config_name, overrides)
    if found := re.search(r"(?:Sweep parameters|Ambiguous value for argument) '([^']+)'", text):
        key, _, value = found[1].partition("=")
        return f"{found[1]}: several values; add --multirun to run one after the other, or write '{key}=[{value}]' for a list"
    cause = error.__cause__
    reason = f": {str(cause).splitlines()[0]}" if cause is not None and str(cause) else ""
    if isinstance(error, OmegaConfBaseException):
        key = f"{error.full_key}: " if error.full_key else ""
        return f"{key}{text.splitlines()[0]}"
    return f"{' '.join(text.split())}{reason}"


def _unknown(key: str, config_name: str, overrides: list[str]) -> str:
    """`key` is not in the composed config: walk down to the first part that is missing and list its neighbours."""
    rest = [o for o in overrides if not o.startswith("-") and not re.match(rf"\+*{re.escape(key)}(@[^=]*)?=", o)]
    try:
        with initialize_config_dir(str(paths.CONFIGS), version_base=None):
            node: Any = OmegaConf.to_container(compose(config_name, rest))
    except (HydraException, OmegaConfBaseException):
        return f"unknown key '{key}'"
    where: list[str] = []
    for part in key.split("."):
        if not isinstance(node, dict):
            return f"'{'.'.join(where)}' is a value, so there is no key '{key}'"
        if part not in node:
            break
        node = cast(dict[str, Any], node)[part]
        where.append(part)
    missing = ".".join([*where, key.split(".")[len(where)]]) if len(where) < len(key.split(".")) else key
    return f"unknown key '{missing}' in {config_name}{_accepted(missing.rpartition('.')[2], _keys(node))}"


def _keys(node: Any) -> list[str]:
    return [key for key in cast(dict[str, Any], node) if key != "_target_"] if isinstance(node, dict) else []


def _accepted(name: str, options: Iterable[str]) -> str:
    options = list(options)
    close = difflib.get_close_matches(name, options, n=1)
    hint = f"; did you mean '{close[0]}'?" if close else ";"
    return f"{hint} accepted: {', '.join(options)}" if options else ""
