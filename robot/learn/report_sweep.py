"""Results over one key of the config, e.g. success over the number of teachers: what a sweep is made for."""

from collections.abc import Sequence
from typing import cast

import numpy as np
from omegaconf import DictConfig, OmegaConf

from robot.core.errors import ConfigError
from robot.learn import report_curves
from robot.learn.report_results import Result, main_columns, measure_of


def charts(results: Sequence[Result], key: str) -> str:
    """A figure for each measure, the mean with its 95 % interval over the values that `key` has in the results' configs.

    Raises:
        ConfigError: a result's config has no such key, or its value is no number.
    """
    trained = [result for result in results if result.folder.name not in (_config(result).get("baselines") or [])]
    found = sorted(((value(result, key), result) for result in trained), key=lambda pair: pair[0])
    at = np.array([number for number, _ in found])
    figures = []
    for name in dict.fromkeys([*main_columns(list(results)), *(name for _, result in found for name in result.metrics)]):
        rows = [result.metrics.get(name) or {} for _, result in found]
        if any(row.get(part) is None for row in rows for part in ("mean", "low", "high")):
            continue
        measure = measure_of(name)
        scale = 1.0 if measure.share else measure.scale
        mean, low, high = (np.array([row[part] * scale for row in rows]) for part in ("mean", "low", "high"))
        unit = f" [{measure.unit}]" if measure.unit and not measure.share else ""
        figures.append(report_curves.figure(f"{measure.title}{unit}", at, {name: mean}, key, (low, high)))
    return "".join(figures)


def value(result: Result, key: str) -> float:
    """What `key`, dotted, is in the config that a result was made with."""
    found = OmegaConf.select(_config(result), key)
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise ConfigError(f"x: '{key}' is {found!r} in the config of '{result.folder}', not a number to draw over")
    return float(found)


def _config(result: Result) -> DictConfig:
    """The result's own config, or that of the run whose results/ it lies in; empty without either."""
    run = result.folder if (result.folder / "config.yaml").exists() else result.folder.parent.parent
    file = run / "config.yaml"
    config = result.config or (OmegaConf.load(file) if file.exists() else {})
    return OmegaConf.create(config) if isinstance(config, dict) else cast(DictConfig, config)
