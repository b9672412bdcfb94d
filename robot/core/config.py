"""From a yaml node to an object.

Values live in yaml; types and meaning live in a dataclass beside the class, which the class takes as its argument
`config`. `_target_` in the yaml is the only place where a name becomes a class.
"""

import dataclasses
import difflib
import importlib
import inspect
import typing
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException

from robot.core.errors import ConfigError


def locate(target: str) -> Any:
    """The class or function that a dotted path names."""
    module, _, name = target.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"_target_: '{target}' cannot be imported: {error}") from error


def config_class(target: Any) -> type | None:
    """The dataclass that a class or function takes as its argument `config`, or None."""
    signature = target.__init__ if inspect.isclass(target) else target
    hint = typing.get_type_hints(signature).get("config")
    return hint if dataclasses.is_dataclass(hint) else None


def typed(schema: type, node: Any, where: str) -> Any:
    """Merge `node` into the dataclass `schema`; a wrong key, type or missing value is a ConfigError that names it."""
    values = OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig) else dict(node or {})
    values.pop("_target_", None)
    try:
        merged = OmegaConf.merge(OmegaConf.structured(schema), OmegaConf.create(values))
        return OmegaConf.to_object(merged)
    except ConfigKeyError as error:
        raise ConfigError(f"{where}: {_unknown(schema, error)}") from error
    except MissingMandatoryValue as error:
        raise ConfigError(f"{where}: {str(error).splitlines()[0]}; set {where}.<key>=<value>") from error
    except OmegaConfBaseException as error:
        key = f" '{error.full_key}'" if error.full_key else ""
        raise ConfigError(f"{where}: wrong value for key{key}: {str(error).splitlines()[0]}") from error
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from error


def build(node: DictConfig | Mapping[str, Any], where: str = "", **runtime: Any) -> Any:
    """Call the class named by `node._target_` with its typed config and the runtime arguments it asks for.

    Args:
        node: a config node with `_target_` and the fields of the target's config dataclass.
        where: the config group, for error messages.
        runtime: objects that no yaml can hold (an Interface, statistics, an env); those the target does not name
            are left out, so that one call site serves every class of a group.
    """
    if "_target_" not in node:
        raise ConfigError(f"{where or 'config'}: no _target_; a component's yaml must name its class")
    target = locate(node["_target_"])
    schema = config_class(target)
    keys = [key for key in node if key != "_target_"]
    arguments: dict[str, Any] = {}
    if schema is not None:
        arguments["config"] = typed(schema, node, where or node["_target_"])
    elif keys:
        raise ConfigError(f"{where or node['_target_']}: takes no keys, got {keys}")
    accepted = inspect.signature(target).parameters
    arguments.update({key: value for key, value in runtime.items() if key in accepted})
    return target(**arguments)


def _unknown(schema: type, error: ConfigKeyError) -> str:
    known = [field.name for field in dataclasses.fields(schema)]
    key = str(error.key)
    close = difflib.get_close_matches(key, known, n=1)
    hint = f"; did you mean '{close[0]}'?" if close else ";"
    return f"unknown key '{error.full_key or key}'{hint} accepted: {', '.join(known)}"
