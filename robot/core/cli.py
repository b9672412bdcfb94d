"""What every entry point shares: composition, help, and errors of one line.

    @entry("train")
    def main(cfg: DictConfig) -> None: ...

Nothing heavy is imported before the arguments have been looked at, so `--help` answers at once.
"""

import difflib
import functools
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robot.core import paths
from robot.core.errors import ConfigError, TillerError

if TYPE_CHECKING:
    from omegaconf import DictConfig

FULL_ERROR = "HYDRA_FULL_ERROR"
"""Environment variable: 1 shows tracebacks instead of one line."""

SETTINGS = {
    "hydra.run.dir": ".",
    "hydra.output_subdir": "null",
    "hydra.sweep.dir": "runs/sweeps/${now:%Y-%m-%d_%H-%M-%S}",
    "hydra/job_logging": "stdout",
}
"""Hydra's own folders and logs stay out of the working directory; an override of the same key wins."""


def entry(config_name: str) -> Callable[[Callable[["DictConfig"], Any]], Callable[..., None]]:
    """Make `main(cfg)` a command that composes configs/<config_name>.yaml with the overrides of the command line."""

    def decorate(main: Callable[["DictConfig"], Any]) -> Callable[..., None]:
        @functools.wraps(main)
        def command(arguments: Sequence[str] | None = None) -> None:
            _command(config_name, main, sys.argv[1:] if arguments is None else list(arguments))

        return command

    return decorate


def rewrite(override: str, config_name: str = "") -> list[str]:
    """Turn `policy=<path>` into the group option that loads it: a run folder, an exported folder or an .onnx file.

    Where a policy is only played, the name of a pretrained one means its export.
    """
    key, _, value = override.partition("=")
    value = value.strip("'\"")
    if key == "policy" and config_name != "train" and value and (paths.PRETRAINED / value / "policy.onnx").exists():
        return ["policy=onnx", f"policy.path='{paths.PRETRAINED / value}'"]
    if key != "policy" or not value or (paths.CONFIGS / "policy" / f"{value}.yaml").exists():
        return [override]
    path = Path(value).expanduser()
    if not path.exists() and (paths.ROOT / path).exists():
        path = paths.ROOT / path
    if not (path.is_dir() or value.endswith(".onnx") or "/" in value):
        return [override]
    quoted = str(path).replace("\\", "\\\\").replace("'", "\\'")
    return [f"policy={_kind(path)}", f"policy.path='{quoted}'"]


def of_run(overrides: list[str]) -> list[str]:
    """Turn `policy.<key>=<value>` beside a run folder into a change of the policy in that run."""
    if "policy=checkpoint" not in overrides:
        return overrides
    return [re.sub(r"^policy\.(?!path=|overrides[.=])", "+policy.overrides.", override) for override in overrides]


def check_option(override: str) -> None:
    """Refuse `group=option` where no such option exists; Hydra says nothing where the group is optional."""
    key, _, value = override.partition("=")
    group, options = key.partition("@")[0], value.split(",")
    known = sorted(file.stem for file in (paths.CONFIGS / group).glob("*.yaml")) if re.fullmatch(r"[\w/]+", group) else []
    for option in options if known else []:
        if re.fullmatch(r"[\w-]+", option) and option not in (*known, "null"):
            close = difflib.get_close_matches(option, known, n=1)
            hint = f"; did you mean '{close[0]}'?" if close else ";"
            raise ConfigError(f"{group}: there is no '{option}'{hint} accepted: {', '.join(known)}")


def _kind(path: Path) -> str:
    if not path.exists():
        known = ", ".join(_saved()) or "none yet; run python -m robot.train policy=navdp"
        raise ConfigError(f"policy: there is no '{path}'; saved policies: {known}")
    if path.is_file() and path.suffix == ".onnx":
        return "onnx"
    if (path / "config.yaml").exists() and (path / "checkpoints").is_dir():
        return "checkpoint"
    if (path / "policy.onnx").exists():
        return "onnx"
    raise ConfigError(f"policy: '{path}' holds neither config.yaml with checkpoints/ (a run) nor policy.onnx (an export)")


def _saved() -> list[str]:
    runs = sorted(Path("runs").glob("*/*/checkpoints")) + sorted(Path("runs").glob("*/checkpoints"))
    exported = sorted(paths.PRETRAINED.glob("*/policy.onnx"))
    return [str(p.parent) for p in runs] + [f"assets/pretrained/{p.parent.name}" for p in exported]


def _command(config_name: str, main: Callable[["DictConfig"], Any], arguments: list[str]) -> None:
    if "--help" in arguments or "-h" in arguments:
        from robot.core.help import text

        sys.stdout.write(text(config_name, main.__doc__ or "", arguments))
        return
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning made training on a busy machine 3 times slower
    full = os.environ.get(FULL_ERROR) == "1"
    overrides: list[str] = []
    try:
        overrides = of_run([piece for argument in arguments for piece in rewrite(argument, config_name)])
        for override in overrides:
            check_option(override)
        first = next((i for i, word in enumerate(overrides) if "=" in word and not word.startswith("-")), len(overrides))
        settings = _settings(config_name, overrides)  # beside the overrides: Hydra takes no flags between them
        _run(config_name, main, [*overrides[:first], *settings, *overrides[first:]], full)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)
    except TillerError as error:
        if full:
            raise
        _fail(str(error))
    except Exception as error:
        if full or not _composition(error):
            raise
        from robot.core.complaint import complaint

        _fail(complaint(error, config_name, overrides))


def _run(config_name: str, main: Callable[["DictConfig"], Any], arguments: list[str], full: bool) -> None:
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from omegaconf.errors import MissingMandatoryValue

    @functools.wraps(main)
    def job(cfg: "DictConfig") -> Any:
        try:
            return main(cfg)
        except (TillerError, MissingMandatoryValue) as error:
            if full or HydraConfig.get().mode == RunMode.MULTIRUN:
                raise
            hint = f"; set {error.full_key}=<value>" if isinstance(error, MissingMandatoryValue) else ""
            _fail(str(error).splitlines()[0] + hint if hint else str(error))

    before = sys.argv, os.environ.get(FULL_ERROR)
    sys.argv = [sys.argv[0], *arguments]
    os.environ[FULL_ERROR] = "1"  # Hydra then raises what it would print and leaves the words to us
    try:
        hydra.main(version_base=None, config_path=str(paths.CONFIGS), config_name=config_name)(job)()
    finally:
        sys.argv = before[0]
        if before[1] is None:
            del os.environ[FULL_ERROR]
        else:
            os.environ[FULL_ERROR] = before[1]


def _settings(config_name: str, overrides: list[str]) -> list[str]:
    if any(argument.startswith(("--shell-completion", "-sc", "--hydra-help")) for argument in overrides):
        return []
    given = {re.sub(r"^\++", "", argument).partition("=")[0] for argument in overrides}
    settings = {**SETTINGS, "hydra.job.name": config_name}
    return [f"{key}={value}" for key, value in settings.items() if key not in given]


def _composition(error: Exception) -> bool:
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    return isinstance(error, HydraException | OmegaConfBaseException)


def _fail(message: str) -> None:
    sys.stderr.write(f"error: {' '.join(message.split())}\n")
    sys.exit(2)
