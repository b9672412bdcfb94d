"""Every yaml: composes, names a class that exists, and fills that class's config with the right types."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from robot.core import paths
from robot.core.config import config_class, locate, typed

ENTRIES = sorted(file.stem for file in paths.CONFIGS.glob("*.yaml"))
OPTIONS = sorted((file.parent.name, file.stem) for file in paths.CONFIGS.glob("*/*.yaml"))
GROUPS_OF_TRAIN = {"env", "policy", "data", "trainer", "evaluator", "experiment"}
"""Groups whose options may choose options of others."""
PLAIN = {"test", "vehicle"}
"""Groups that are no component of an entry point."""


def composed(config_name: str, *overrides: str) -> DictConfig:
    with initialize_config_dir(str(paths.CONFIGS), version_base=None):
        return compose(config_name, list(overrides))


def components(cfg: DictConfig) -> list[tuple[str, DictConfig]]:
    groups = [str(key) for key in cfg if (paths.CONFIGS / str(key)).is_dir()]
    return [(group, cfg[group]) for group in groups if isinstance(cfg[group], DictConfig) and "_target_" in cfg[group]]


def check(node: DictConfig, where: str) -> None:
    """Every component in `node` fills its config class; keys that only the command line can give are given here."""
    target = locate(node["_target_"])
    schema = config_class(target)
    for key in [key for key in node if OmegaConf.is_missing(node, key)]:
        node[key] = "given"
    if schema is not None:
        typed(schema, node, where)
    else:
        assert set(node) <= {"_target_"}, f"{where}: {target} takes no config"
    for key, value in node.items():
        if isinstance(value, DictConfig) and "_target_" in value:
            check(value, f"{where}.{key}")


@pytest.mark.parametrize("entry", ENTRIES)
def test_entry_points_compose_with_what_they_name(entry: str) -> None:
    assert (paths.ROOT / "robot" / f"{entry}.py").exists(), f"configs/{entry}.yaml has no robot/{entry}.py"
    cfg = composed(entry)
    for group, node in components(cfg):
        check(node, group)


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_options_fill_their_config_classes(group: str, option: str) -> None:
    if group in GROUPS_OF_TRAIN:
        cfg = composed("train", f"{group}={option}")
        for name, node in components(cfg):
            check(node, name)
    elif group not in PLAIN:
        cfg = composed(f"{group}/{option}")
        if "_target_" in cfg[group]:
            check(cfg[group], group)


@pytest.mark.parametrize("entry", ENTRIES)
def test_help_is_quick_and_names_every_group(entry: str) -> None:
    import resource

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-m", f"robot.{entry}", "--help"], cwd=paths.ROOT, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    for group in composed(entry):
        if (paths.CONFIGS / str(group)).is_dir():
            assert re.search(rf"^  {group} ", done.stdout, re.MULTILINE), group
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.5


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_wrong_key_is_one_line(entry: str) -> None:
    command = [sys.executable, "-m", f"robot.{entry}", "no_such_key=1"]
    done = subprocess.run(command, cwd=paths.ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: unknown key 'no_such_key'")
    assert done.stderr.count("\n") == 1


def test_every_config_field_says_what_it_means() -> None:
    """A dataclass that a yaml fills has a docstring below each field, which --help shows."""
    from robot.core.help import _docstrings

    silent = []
    for file in sorted(paths.CONFIGS.glob("*/*.yaml")):
        target = OmegaConf.load(file).get("_target_")
        schema = config_class(locate(target)) if target else None
        if schema is not None:
            told = _docstrings(target)
            silent += [f"{schema.__name__}.{name}" for name in schema.__dataclass_fields__ if name not in told]
    assert sorted(set(silent)) == []


def test_no_yaml_is_empty_or_orphaned() -> None:
    files = [Path(file) for file in paths.CONFIGS.rglob("*.yaml")]
    assert [file.name for file in files if not file.read_text().strip()] == []


@pytest.mark.parametrize("policy", ["raptor", "raptor_small"])
def test_what_flies_any_vehicle_is_evaluated_on_vehicles_of_no_fleet(policy: str) -> None:
    with initialize_config_dir(str(paths.CONFIGS), version_base=None):
        cfg = compose("train", [f"policy={policy}"])
    assert cfg.env.fleet > 0
    assert OmegaConf.merge(cfg.env, cfg.test).fleet == 0
