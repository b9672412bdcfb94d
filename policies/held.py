"""Policies that hold policies: from what a yaml or the command line says to the policy that is meant."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from policies.generator import Generator
from robot.core.config import build
from robot.core.errors import ConfigError, InterfaceError
from robot.core.interface import Interface
from robot.core.paths import CONFIGS

SAVED = "robot.learn.checkpoint.Checkpoint"
"""What loads a run folder; named here, not imported, since this package knows nothing of training."""


def hold(given: Any, where: str, interface: Interface | None, env: Any = None) -> Generator:
    """Build a held policy.

    Args:
        given: a run folder; the name of a yaml in configs/policy; a mapping with `_target_`, or with `policy: <name>` and keys of
            that yaml to change. Inner policies are given in the same way, so wrappers nest: {policy: gpc, parents: [a, b]}.
        where: the key, for error messages.
        interface: that the policy must have, or None for any.
        env: for policies that read it.

    Raises:
        ConfigError: there is no such policy, or it is no generator.
        InterfaceError: it is for another robot or task.
    """
    node = _node(given, where)
    policy = build(node, where, interface=interface, env=env)
    if not isinstance(policy, Generator):
        raise ConfigError(f"{where}: {type(policy).__name__} draws no chunks from noise; a trained generator is needed here")
    differences = interface.compare(policy.interface) if interface is not None else []
    if differences:
        raise InterfaceError(f"{where}: the policy in {given!r} is for another task: {'; '.join(differences[:3])}")
    return policy.eval().requires_grad_(False)


def _node(given: Any, where: str) -> dict[str, Any]:
    if isinstance(given, DictConfig):
        given = OmegaConf.to_container(given, resolve=True)
    if isinstance(given, str):
        if (Path(given).expanduser() / "config.yaml").exists():
            return {"_target_": SAVED, "path": given, "overrides": {}}
        given = {"policy": given}
    if not isinstance(given, dict) or not ({"policy", "_target_"} & set(given)):
        raise ConfigError(f"{where}: {given!r}; give a run folder, a policy's name, or {{policy: <name>, <key>: <value>, …}}")
    if "_target_" in given:
        return given
    name, changes = given["policy"], {key: value for key, value in given.items() if key != "policy"}
    if (Path(name).expanduser() / "config.yaml").exists():
        return {"_target_": SAVED, "path": name, "overrides": changes}
    return _named(str(name), changes, where)


def _named(name: str, changes: dict[str, Any], where: str) -> dict[str, Any]:
    file = CONFIGS / "policy" / f"{name}.yaml"
    if not file.exists():
        trained = ", ".join(sorted(str(f.parent) for f in Path("runs").glob("*/*/config.yaml"))) or "none yet"
        known = ", ".join(sorted(f.stem for f in file.parent.glob("*.yaml")))
        raise ConfigError(f"{where}: there is no run folder and no policy '{name}'; runs: {trained}; policies: {known}")
    node = OmegaConf.load(file)
    assert isinstance(node, DictConfig)
    parents = [entry for entry in node.pop("defaults", []) if isinstance(entry, str) and entry != "_self_"]
    for parent in reversed(parents):
        node = OmegaConf.merge(OmegaConf.create(_named(parent, {}, where)), node)
    plain = OmegaConf.to_container(OmegaConf.merge(node, changes), resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}
