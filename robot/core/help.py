"""The text of `--help`: groups with their options, and every key of the chosen ones with its meaning.

Everything is read from the yaml files and from the syntax trees of the classes they name, so that nothing is imported.
"""

import ast
import re
from pathlib import Path
from typing import Any, cast

import yaml

from robot.core import paths

HIDDEN = {"hydra"}


def groups() -> dict[str, list[str]]:
    """Option names of every config group, by group."""
    found: dict[str, list[str]] = {}
    for file in sorted(paths.CONFIGS.glob("*/*.yaml")):
        if file.parent.name not in HIDDEN:
            found.setdefault(file.parent.name, []).append(file.stem)
    return found


def text(config_name: str, description: str, arguments: list[str]) -> str:
    """The help of the entry point that composes configs/<config_name>.yaml, for the options chosen in `arguments`."""
    root = paths.CONFIGS / f"{config_name}.yaml"
    chosen = choices(root, arguments)
    summary, _, examples = description.partition("Examples:")
    lines = [f"python -m robot.{config_name} [group=option] [key=value] …", ""]
    lines += [" ".join(summary.split()), ""] if summary.strip() else []
    lines += ["Groups (in brackets: chosen here)"]
    lines += [_options(group, names, chosen) for group, names in groups().items() if group in chosen]
    if "policy" in chosen:
        lines += ["  policy=<folder> takes a run (policy.<key> is then a key of its policy), an exported folder or an .onnx file"]
    lines += ["", f"Keys ({config_name}.yaml)", *_keys(root)]
    for group, name in chosen.items():
        file = paths.CONFIGS / group / f"{name}.yaml"
        if file.exists():
            lines += ["", f"Keys of {group}={name}", *_keys(file, f"{group}.")]
    lines += ["", "Examples", *_examples(config_name, root, examples), ""]
    lines += [
        "  --multirun with key=a,b runs every combination · --cfg job prints the composed config",
        "  HYDRA_FULL_ERROR=1 shows tracebacks · --hydra-help lists Hydra's own flags",
        "",
    ]
    return "\n".join(lines)


def choices(root: Path, arguments: list[str]) -> dict[str, str]:
    """Option of every group in the defaults of `root`, after the overrides of its options and of the command line."""
    given = {key: value for key, _, value in (a.partition("=") for a in arguments) if (paths.CONFIGS / key).is_dir()}
    chosen = {key: given.get(key, value) for key, value in _defaults(root) if not key.startswith("override ")}
    for group, name in list(chosen.items()):
        for key, value in _defaults(paths.CONFIGS / group / f"{name}.yaml"):
            target = re.match(r"override /(\w+)", key)
            if target and target[1] in chosen and target[1] not in given:
                chosen[target[1]] = value
    return chosen


def _load(file: Path) -> dict[str, Any]:
    return yaml.safe_load(file.read_text()) or {} if file.exists() else {}


def _defaults(file: Path) -> list[tuple[str, str]]:
    entries: list[Any] = _load(file).get("defaults", [])
    pairs = [pair for item in entries if isinstance(item, dict) for pair in cast(dict[str, Any], item).items()]
    return [(re.sub(r"^optional ", "", key), str(value)) for key, value in pairs]


def _options(group: str, names: list[str], chosen: dict[str, str]) -> str:
    marked = [f"[{name}]" if chosen.get(group) == name else name for name in names]
    return f"  {group:12} {', '.join(marked)}"


def _keys(file: Path, prefix: str = "") -> list[str]:
    values = _values(file)
    meaning = {**_comments(file), **_docstrings(str(values.get("_target_", "")))}
    shown = [key for key in values if key not in ("defaults", "_target_", "hydra")]
    return [_key(prefix + key, values[key], meaning.get(key, "")) for key in shown]


def _values(file: Path) -> dict[str, Any]:
    """The keys of a yaml on those of the options of its own group that it builds on."""
    own = _load(file)
    bases = [item for item in own.get("defaults", []) if isinstance(item, str) and item != "_self_"]
    merged: dict[str, Any] = {}
    for base in bases:
        merged.update(_values(file.parent / f"{base}.yaml"))
    return {**merged, **own}


def _key(name: str, value: Any, meaning: str) -> str:
    shown = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=1000).replace("\n...", "").strip()
    return f"  {f'{name}={shown}':44} {meaning}".rstrip()


def _comments(file: Path) -> dict[str, str]:
    """The comment behind or above each key of a yaml file's top level."""
    found: dict[str, str] = {}
    above = ""
    for line in file.read_text().splitlines():
        match = re.match(r"(\w+):[^#]*(?:\s#\s*(.*))?$", line)
        if match:
            found[match[1]] = match[2] or above
        above = line.lstrip("# ") if line.startswith("#") else ""
    return found


def _docstrings(target: str) -> dict[str, str]:
    """First line of the docstring below each field of the dataclass that `target` takes as its argument `config`."""
    module, _, name = str(target).rpartition(".")
    tree = _parse(module)
    if tree is None:
        return {}
    named = [node for node in tree.body if getattr(node, "name", None) == name]
    arguments = [argument for node in named for argument in ast.walk(node) if isinstance(argument, ast.arg)]
    hints = [ast.unparse(argument.annotation) for argument in arguments if argument.arg == "config" and argument.annotation]
    return _find(tree, hints[0]) if hints else {}


def _find(tree: ast.Module, name: str) -> dict[str, str]:
    """Docstrings of the fields of the class `name` and its bases, defined in this module or imported from another."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            inherited = [_find(tree, base.id) for base in node.bases if isinstance(base, ast.Name)]
            return {key: value for found in (*inherited, _fields(node)) for key, value in found.items()}
        if isinstance(node, ast.ImportFrom) and any(alias.name == name for alias in node.names):
            other = _parse(node.module or "")
            return _find(other, name) if other is not None else {}
    return {}


def _parse(module: str) -> ast.Module | None:
    file = paths.ROOT / (module.replace(".", "/") + ".py")
    return ast.parse(file.read_text()) if module and file.exists() else None


def _fields(config: ast.ClassDef) -> dict[str, str]:
    found: dict[str, str] = {}
    for field, below in zip(config.body, config.body[1:], strict=False):
        if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
            continue
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            found[field.target.id] = str(below.value.value).strip().splitlines()[0]
    return found


def _examples(config_name: str, root: Path, described: str) -> list[str]:
    """The commands in the description, or else in the leading comment of `root`."""
    text = described or (root.read_text() if root.exists() else "")
    commands = [line.lstrip("# ") for line in text.splitlines() if "python -m" in line]
    return [f"  {command}" for command in commands] or [f"  python -m robot.{config_name}"]
