"""Collect a dataset: `python -m robot.collect env=navigation policy=expert episodes=1000 output=data/home`."""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from robot.core import paths
from robot.core.cli import entry

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from robot.data.episodes import EpisodeDataset

_FREE = ("num_envs", "threads")
"""Env keys that change the speed of a collection and nothing else, so that it may resume with other values."""

_SOURCE = "episodes"
"""The option of group `data` that reads datasets."""


@dataclass
class CollectConfig:
    """The keys of collect.yaml beside its groups; their meaning stands there."""

    episodes: int
    seed: int
    output: str
    resume: bool
    episodes_per_file: int
    progress: bool | None


@entry("collect")
def main(cfg: "DictConfig") -> None:
    """Let an expert or a policy drive an env and write its episodes to a dataset (LeRobotDataset v3.0 layout)."""
    from robot.core.config import build, typed
    from robot.core.errors import ConfigError
    from robot.data.episodes import DatasetWriter, EpisodeDataset
    from robot.learn.collector import Collector

    job = typed(CollectConfig, {field.name: cfg[field.name] for field in fields(CollectConfig)}, "collect")
    if job.episodes < 1 or job.episodes_per_file < 1 or job.seed < 0:
        raise ConfigError("episodes and episodes_per_file must be at least 1, seed at least 0")
    env = build(cfg.env, "env")
    actor = build(cfg.policy, "policy", env=env, interface=env.interface)
    with DatasetWriter(job.output, env.interface, _header(cfg), job.episodes_per_file, job.resume) as writer:
        Collector(env, actor, job.progress).run(writer, job.episodes, job.seed)
    print(_summary(EpisodeDataset(job.output)))


def _header(cfg: "DictConfig") -> dict[str, Any]:
    """What decides the content of the dataset; a resumed collection must agree with it."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    whole: Any = OmegaConf.to_container(cfg, resolve=True)
    env = {key: value for key, value in whole["env"].items() if key not in _FREE}
    return {"task": str(HydraConfig.get().runtime.choices["env"]), "seed": cfg.seed, "env": env, "policy": whole["policy"]}


def _summary(dataset: "EpisodeDataset") -> str:
    """The last lines printed: what was collected, where it is, and what comes next."""
    success = dataset.headers.get("success")
    rate = "" if success is None else f", success {100 * float(success.mean()):.1f} %"
    name = dataset.info["tiller"]["task"]
    reads = (paths.CONFIGS / "data" / f"{_SOURCE}.yaml").exists()
    data = f" data={_SOURCE} data.root={dataset.root}" if reads else ""
    return (
        f"{len(dataset)} episodes, {int(dataset.lengths.sum())} frames{rate}: {dataset.root}\n"
        f"next: python -m robot.train env={name}{data}"
    )


if __name__ == "__main__":
    main()
