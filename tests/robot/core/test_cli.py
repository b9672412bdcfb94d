"""The command line: composition, help, one-line errors, and what `policy=<path>` becomes."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from robot.core import paths
from robot.core.cli import entry, of_run, rewrite
from robot.core.errors import ConfigError

FILES = {
    "toy.yaml": "# python -m robot.toy thing=small\ndefaults:\n  - thing: small\n  - policy: plain\n  - _self_\n"
    "  - optional extra: null\n"
    "seed: 0  # of everything random\noutput: ???\n",
    "extra/more.yaml": "# @package _global_\nseed: 5\n",
    "thing/small.yaml": "_target_: toys.Thing\nsize: 1\nshape: {width: 2, height: 3}\n",
    "thing/large.yaml": "_target_: toys.Thing\nsize: 9\nshape: {width: 8, height: 8}\n",
    "thing/heir.yaml": "defaults:\n  - large\n  - _self_\n_target_: heirs.Heir\nname: x\n",
    "policy/plain.yaml": "gain: 1.0\n",
    "policy/fancy.yaml": "defaults:\n  - override /thing@_global_.thing: large\n  - _self_\ngain: 2.0\n",
    "policy/checkpoint.yaml": "path: ???\n",
    "policy/onnx.yaml": "path: ???\n",
}


@pytest.fixture
def configs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in FILES.items():
        file = tmp_path / "configs" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (tmp_path / "toys.py").write_text(
        'class ThingConfig:\n    size: int\n    """Edge length [m].\n\n    more"""\n    shape: dict\n\n\nclass Thing:\n'
        "    def __init__(self, config: ThingConfig) -> None:\n        pass\n"
    )
    (tmp_path / "heirs.py").write_text(
        'from toys import ThingConfig\n\n\nclass HeirConfig(ThingConfig):\n    name: str\n    """What it is called."""\n\n\n'
        "class Heir:\n    def __init__(self, config: HeirConfig) -> None:\n        pass\n"
    )
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setattr(paths, "CONFIGS", tmp_path / "configs")
    monkeypatch.setattr(paths, "PRETRAINED", tmp_path / "assets" / "pretrained")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


@pytest.fixture
def seen(configs: Path) -> list[DictConfig]:
    return []


@pytest.fixture
def command(seen: list[DictConfig]):
    @entry("toy")
    def main(cfg: DictConfig) -> None:
        """Plays with a toy."""
        seen.append(cfg)
        if cfg.seed == 666:
            raise ConfigError("seed:\n 666 is not allowed")
        if cfg.seed == 667:
            raise KeyboardInterrupt
        if cfg.seed == 668:
            raise ZeroDivisionError

    return main


def failure(command, capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 2) -> str:
    with pytest.raises(SystemExit) as caught:
        command(arguments)
    assert caught.value.code == status
    err = capsys.readouterr().err
    assert err.count("\n") == 1, err
    return err


def test_overrides_reach_main_and_leave_no_folders(command, seen, configs) -> None:
    command(["seed=3", "thing=large", "thing.shape.width=5", "policy.gain=0.5"])
    assert OmegaConf.to_container(seen[0]) == {
        "seed": 3,
        "output": "???",
        "thing": {"_target_": "toys.Thing", "size": 9, "shape": {"width": 5, "height": 8}},
        "policy": {"gain": 0.5},
    }
    assert not list((configs / "work").iterdir())


def test_policy_brings_its_thing_unless_the_command_line_names_one(command, seen) -> None:
    command(["policy=fancy"])
    command(["policy=fancy", "thing=small"])
    assert [cfg.thing.size for cfg in seen] == [9, 1]


def test_multirun_runs_each_value(command, seen) -> None:
    command(["--multirun", "seed=1,2", "thing=small,large"])
    assert sorted((cfg.seed, cfg.thing.size) for cfg in seen) == [(1, 1), (1, 9), (2, 1), (2, 9)]


@pytest.mark.parametrize("arguments", [["--cfg", "job", "seed=7"], ["seed=7", "--cfg", "job"]])
def test_cfg_job_prints_the_composed_config(arguments, command, seen, capsys) -> None:
    command(arguments)
    printed = capsys.readouterr().out
    assert "seed: 7" in printed
    assert "hydra" not in printed
    assert not seen


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("thing.siez=1", ["'thing.siez'", "did you mean 'size'?", "accepted: size, shape"]),
        ("thing.shape.widht=1", ["'thing.shape.widht'", "'width'", "accepted: width, height"]),
        ("thnig.size=1", ["unknown key 'thnig'", "did you mean 'thing'?", "seed"]),
        ("thing.size.x=1", ["'thing.size' is a value", "'thing.size.x'"]),
        ("sede=1", ["'sede'", "'seed'"]),
        ("polciy=plain", ["'polciy'", "'policy'"]),
        ("thing=smal", ["thing: there is no 'smal'", "'small'", "heir, large, small"]),
        ("extra=mroe", ["extra: there is no 'mroe'", "'more'"]),
        ("policy=plain,fanzy", ["policy: there is no 'fanzy'"]),
        ("policy=fanzy", ["policy: there is no 'fanzy'", "did you mean 'fancy'?", "plain"]),
        ("seed", ["'seed'", "key=value"]),
        ("seed=1,2", ["seed=1,2", "--multirun"]),
        ("seed={", ["'seed={'", "key=value"]),
        ("seed=666", ["seed: 666 is not allowed"]),
    ],
)
def test_errors_are_one_line(command, capsys, override: str, words: list[str]) -> None:
    message = failure(command, capsys, override)
    assert message.startswith("error: ")
    assert [word for word in words if word not in message] == [], message


def test_interrupt_ends_with_130(command, capsys) -> None:
    assert failure(command, capsys, "seed=667", status=130) == "interrupted\n"


def test_missing_value_is_named(configs, capsys) -> None:
    @entry("toy")
    def main(cfg: DictConfig) -> None:
        Path(cfg.output).mkdir()

    assert "output" in failure(main, capsys)


def test_a_bug_keeps_its_traceback(command) -> None:
    with pytest.raises(ZeroDivisionError):
        command(["seed=668"])


def test_full_error_keeps_the_traceback(command, monkeypatch) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(ConfigError):
        command(["seed=666"])


def test_policy_path_becomes_a_group_option(configs: Path, seen, command) -> None:
    run = configs / "work" / "runs" / "a b" / "it's"
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.yaml").write_text("")
    exported = configs / "assets" / "pretrained" / "good"
    exported.mkdir(parents=True)
    (exported / "policy.onnx").write_bytes(b"")
    for value in ("runs/a b/it's", "assets/pretrained/good", str(exported / "policy.onnx"), "plain"):
        command([f"policy={value}"])
    assert [cfg.policy.get("path") for cfg in seen] == ["runs/a b/it's", str(exported), str(exported / "policy.onnx"), None]
    assert rewrite("policy=runs/a b/it's")[0] == "policy=checkpoint"
    assert rewrite("policy=assets/pretrained/good")[0] == "policy=onnx"
    assert rewrite("env=runs/x") == ["env=runs/x"]


def test_a_key_of_a_runs_policy_is_changed_as_in_any_policy() -> None:
    given = ["policy=checkpoint", "policy.path='a'", "seed=1", "policy.temperature=0.2", "policy.generative.sample_steps=4"]
    assert of_run(given) == [*given[:3], "+policy.overrides.temperature=0.2", "+policy.overrides.generative.sample_steps=4"]
    long = ["policy=checkpoint", "+policy.overrides.temperature=0.2", "policy.overrides.x=1"]
    assert of_run(long) == long
    assert of_run(["policy=navdp", "policy.caution=null"]) == ["policy=navdp", "policy.caution=null"]


def test_policy_path_that_is_not_there_lists_what_is(configs: Path, command, capsys) -> None:
    assert "robot.train" in failure(command, capsys, "policy=runs/x")
    (configs / "assets" / "pretrained" / "good").mkdir(parents=True)
    (configs / "assets" / "pretrained" / "good" / "policy.onnx").write_bytes(b"")
    Path("runs/mine/checkpoints").mkdir(parents=True)
    message = failure(command, capsys, "policy=runs/x")
    assert "'runs/x'" in message
    assert "runs/mine, assets/pretrained/good" in message
    assert "policy.onnx" in failure(command, capsys, "policy=runs/mine")


def test_help_names_groups_options_keys_and_meanings(command, capsys, seen) -> None:
    command(["--help", "policy=fancy"])
    printed = capsys.readouterr().out
    for line in ("Plays with a toy.", "thing        heir, [large], small", "[fancy]", "python -m robot.toy thing=small"):
        assert line in printed
    assert printed.split("thing.size=9")[1].split("\n")[0].strip() == "Edge length [m]."
    assert printed.split("seed=0")[1].split("\n")[0].strip() == "of everything random"
    assert not seen


def test_help_shows_what_an_option_inherits(command, capsys) -> None:
    command(["--help", "thing=heir"])
    printed = capsys.readouterr().out
    for key, meaning in (("thing.size=9", "Edge length [m]."), ("thing.name=x", "What it is called.")):
        assert printed.split(key)[1].split("\n")[0].strip() == meaning


def test_help_imports_neither_hydra_nor_torch(configs: Path) -> None:
    script = (
        "import sys; from robot.core import paths; from pathlib import Path; paths.CONFIGS = Path(sys.argv[1])\n"
        "from robot.core.cli import entry\n"
        "entry('toy')(lambda cfg: None)(['--help'])\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'hydra', 'numpy')))"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-c", script, str(configs / "configs")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[3])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    assert "Groups" in done.stdout
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.5
