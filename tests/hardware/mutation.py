"""Break hardware/safety.py in every small way that a slip could, one at a time, and see whether the tests notice.

    python -m tests.hardware.mutation [share=1.0 golden=1 workers=2]

A mutant is one changed operator, comparison, constant, call, branch, statement or result. It is played against the tests of
test_safety.py, fastest first, in a process of its own; what lives is printed with its line. Those in `EQUIVALENT` cannot be told
from the original by anybody; each says why, and the list is checked: an entry whose line has gone, or that dies, is an error.
"""

import ast
import contextlib
import copy
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from hardware import safety
from hardware.fakes.keys import keys
from robot.core.paths import ROOT
from tests.hardware import test_safety as tests

KEYS = {"share": 1.0, "golden": 1, "workers": os.cpu_count() or 1, "seed": 0}
FILE = ROOT / "hardware" / "safety.py"
PATIENCE = 60
"""A mutant that has not ended after so long hangs, which counts as noticed [s]."""
CLOSE = "v + a2 * abs(a2) / (2 * bound.rate3) >= 0"
EQUIVALENT: dict[tuple[str, str], str] = {
    ("if q + bound.reach < high:", "condition is False"): "only saves the time of what follows",
    ("if q + bound.reach < high:", "Lt to LtE (0) in q + bound.reach < high"): "braking is shorter than its reach",
    (f"if {CLOSE}:", f"GtE to Gt (0) in {CLOSE}"): "where velocity and acceleration end together both ways are a^3 / 6j^2",
    ("if v <= 0:", "LtE to Lt (0) in v <= 0"): "the way to where the velocity is zero is none",
    ("if below >= 0:", "GtE to Gt (0) in below >= 0"): "a chord from zero ends where it begins",
    ("if end > 0:", "Gt to GtE (0) in end > 0"): "a chord from zero ends where it begins",
    (
        "if least <= -v / dt <= most and abs(v) / dt <= jump:",
        "LtE to Lt (0) in abs(v) / dt <= jump",
    ): "the ideal is then 3/2 - 1/2 of the jump as well",
}
"""(line as it stands, change): why nothing that the function promises is different."""

SWAPS: dict[type[ast.AST], tuple[type[ast.AST], ...]] = {
    ast.Add: (ast.Sub,), ast.Sub: (ast.Add,), ast.Mult: (ast.Div,), ast.Div: (ast.Mult,), ast.Pow: (ast.Mult,),
    ast.Lt: (ast.LtE, ast.Gt), ast.LtE: (ast.Lt, ast.Gt), ast.Gt: (ast.GtE, ast.Lt), ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.And: (ast.Or,), ast.Or: (ast.And,),
}  # fmt: skip
CALLS = {"min": "max", "max": "min", "abs": None, "sqrt": None}
"""Calls that become others, or their argument."""


@dataclass(frozen=True)
class Mutant:
    line: int
    change: str
    tree: Callable[[], ast.Module]


def sites(tree: ast.Module) -> Iterator[tuple[int, str, Callable[[ast.AST], ast.AST | None]]]:
    """Number of a node in walking order, what is done to it, and how; None deletes a statement."""
    for number, node in enumerate(ast.walk(tree)):
        for change, make in _changes(node):
            yield number, change, make


Changes = Iterator[tuple[str, Callable[[Any], ast.AST | None]]]


def _changes(node: ast.AST) -> Changes:
    kinds: dict[Any, Callable[[Any], Changes]] = {
        ast.BinOp: _operators, ast.BoolOp: _operators, ast.Compare: _comparisons, ast.UnaryOp: _signs, ast.Constant: _constants,
        ast.Call: _calls, ast.IfExp: _conditions, ast.If: _conditions, ast.Assign: _statements, ast.AugAssign: _statements,
        ast.Continue: _statements, ast.Return: _results,
    }  # fmt: skip
    yield from kinds.get(type(node), lambda n: ())(node)  # type: ignore[misc]


def _operators(node: ast.BinOp | ast.BoolOp) -> Changes:
    for other in SWAPS.get(type(node.op), ()):
        yield f"{type(node.op).__name__} to {other.__name__}", lambda n, other=other: _with(n, op=other())


def _comparisons(node: ast.Compare) -> Changes:
    for place, op in enumerate(node.ops):
        for other in SWAPS.get(type(op), ()):
            ops = [other() if k == place else o for k, o in enumerate(node.ops)]
            change = f"{type(op).__name__} to {other.__name__} ({place}) in {ast.unparse(node)}"
            yield change, lambda n, ops=ops: _with(n, ops=ops)


def _signs(node: ast.UnaryOp) -> Changes:
    yield f"{type(node.op).__name__} dropped", lambda n: n.operand


def _conditions(node: ast.IfExp | ast.If) -> Changes:
    for value in (True, False):
        yield f"condition is {value}", lambda n, value=value: _with(n, test=ast.Constant(value))


def _statements(node: ast.stmt) -> Changes:
    yield "statement dropped", lambda n: None


def _results(node: ast.Return) -> Changes:
    zero = isinstance(node.value, ast.Constant) and node.value.value in (0, False)
    if node.value is not None and not zero and not isinstance(node.value, ast.Tuple):
        yield "returns 0", lambda n: _with(n, value=ast.Constant(0.0))


def _constants(node: ast.Constant) -> Changes:
    value = node.value
    others: tuple[Any, ...] = ()
    if isinstance(value, bool):
        others = (not value,)
    elif isinstance(value, int | float):
        others = (value + 1, -value) if value else (1,)
    for other in others:
        yield f"{value!r} to {other!r}", lambda n, other=other: ast.Constant(other)


def _calls(node: ast.Call) -> Changes:
    name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
    if name not in CALLS:
        return
    other = CALLS[name]
    if other is None:
        yield f"{name} dropped", lambda n: n.args[0]
    else:
        yield f"{name} to {other}", lambda n: _with(n, func=ast.Name(other, ast.Load()))
        for place in range(len(node.args)):
            yield f"{name}'s argument {place} alone", lambda n, place=place: n.args[place]


def _with(node: ast.AST, **fields: Any) -> ast.AST:
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


class _Change(ast.NodeTransformer):
    def __init__(self, target: ast.AST, make: Callable[[ast.AST], ast.AST | None]) -> None:
        self.target, self.make = target, make

    def visit(self, node: ast.AST) -> Any:
        if node is not self.target:
            return self.generic_visit(node)
        made = self.make(node)
        return ast.copy_location(ast.Pass() if made is None else made, node)


def original() -> ast.Module:
    """What is mutated."""
    return _code(ast.parse(FILE.read_text()))


def entry(mutant: Mutant, lines: list[str]) -> tuple[str, str]:
    """What it would be called in `EQUIVALENT`."""
    return lines[mutant.line - 1].strip(), mutant.change


def mutants() -> list[Mutant]:
    """All of them; docstrings, annotations and the declarations of dataclasses are left alone."""
    nodes = list(ast.walk(original()))
    return [
        Mutant(getattr(nodes[number], "lineno", 0), change, partial(_grown, number, make))
        for number, change, make in sites(original())
    ]


def _grown(number: int, make: Callable[[ast.AST], ast.AST | None]) -> ast.Module:
    tree = original()
    node = list(ast.walk(tree))[number]
    return ast.fix_missing_locations(_Change(node, make).visit(tree))


def _code(tree: ast.Module) -> ast.Module:
    """Without docstrings and annotations, which nobody runs."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.returns = None
            for argument in node.args.args:
                argument.annotation = None
        if isinstance(node, ast.FunctionDef | ast.Module | ast.ClassDef):
            kept = [s for s in node.body if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))]
            node.body = kept or [ast.Pass()]
    tree.body = [s for s in tree.body if not isinstance(s, ast.AnnAssign) and not _alias(s)]
    return tree


def _alias(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Subscript)


def checks(golden: bool) -> list[Callable[[], Any]]:
    """The tests, fastest first."""
    arm, second = tests.ARM, tests.Channel("joint", "rad", -2.8, 2.8, 2.6, 15.0, float("inf"))
    first = tests.Channel("v", "m/s", -1, 1, 3.0, float("inf"), float("inf"))
    found: list[Callable[[], Any]] = [
        tests.test_braking_ends_where_it_just_can,
        tests.test_what_is_just_within_the_limits_passes_as_it_is,
        tests.test_rounding_counts_as_the_same,
        tests.test_braking_may_end_on_the_limit,
        tests.test_the_rate_may_be_reached_and_kept,
        tests.test_there_is_no_way_to_go_where_there_is_no_room,
        tests.test_the_same_flag_says_whether_it_is_what_was_wanted,
        tests.test_braking_takes_the_shortest_way,
        tests.test_a_range_that_its_rates_fill_is_refused,
        tests.test_a_robot_that_stands_has_no_differences_and_bounds_do_not_change,
        lambda: [tests.test_what_braking_does_counts_as_what_was_wanted(c) for c in (arm, second, first)],
        tests.test_which_derivatives_are_limited,
        tests.test_at_the_very_end_of_the_range_there_is_no_speed_left,
        lambda: [tests.test_a_jump_is_reached_without_overshoot_in_about_the_shortest_time(c) for c in (arm, second)],
        tests.test_a_moving_target_is_caught_and_then_followed_exactly,
        lambda: [tests.test_what_is_within_all_limits_passes_as_it_is(c) for c in (arm, second, first)],
        lambda: [tests.attack(seed, 300) for seed in range(40)],
        tests.test_channels_do_not_know_of_each_other,
        tests.test_differences_in_the_state_are_those_of_the_commands,
        lambda: [tests.test_the_range_is_reached_and_kept_to_the_last_bit(order) for order in range(4)],
        tests.test_what_comes_to_rest_with_its_acceleration_goes_as_far_as_a_cubic,
    ]
    if golden:
        known = json.loads((ROOT / "tests" / "golden" / "safety.json").read_text())

        def fingerprint() -> None:
            assert tests.record() == pytest.approx(known, rel=1e-6, abs=1e-6)

        found.insert(3, fingerprint)
    return [*found, tests.test_braking_distance_in_closed_form_is_that_of_the_integrated_profile]


def noticed(mutant: Mutant, run: list[Callable[[], Any]]) -> bool:
    """Whether a test fails, raises, or hangs; played in a child, whose module is changed under the tests' feet."""
    child = os.fork()
    if child == 0:
        status = 1
        with contextlib.suppress(BaseException):
            signal.alarm(PATIENCE)
            sys.stderr = sys.stdout = open(os.devnull, "w")  # noqa: SIM115
            module = {"__name__": safety.__name__, "State": Any}
            exec(compile(mutant.tree(), str(FILE), "exec"), module)
            for name, value in module.items():
                if not name.startswith("__"):
                    setattr(safety, name, value)
            for check in run:
                check()
            status = 0
        os._exit(status)
    return os.waitpid(child, 0)[1] != 0


def main(arguments: list[str]) -> int:
    given = keys(KEYS, arguments)
    lines, run = FILE.read_text().splitlines(), checks(bool(given["golden"]))
    for check in run:
        check()  # the original passes
    chosen = mutants()
    if given["share"] < 1:
        chosen = random.Random(given["seed"]).sample(chosen, round(given["share"] * len(chosen)))
    start = time.monotonic()
    with ThreadPoolExecutor(given["workers"]) as pool:
        fates = list(pool.map(lambda mutant: noticed(mutant, run), chosen))
    alive = [m for m, dead in zip(chosen, fates, strict=True) if not dead]
    told = {entry(m, lines) for m in alive}
    unknown = [m for m in alive if entry(m, lines) not in EQUIVALENT]
    for mutant in unknown:
        print(f"{mutant.line}: {mutant.change}: {lines[mutant.line - 1].strip()}")
    wrong = [each for each in EQUIVALENT if given["share"] == 1 and each not in told]
    for line, change in wrong:
        print(f"is said to be equivalent, but dies or is not there: {change}: {line}")
    took = time.monotonic() - start
    print(f"{len(chosen)} mutants, {len(chosen) - len(alive)} noticed, {len(alive) - len(unknown)} equivalent, "
          f"{len(unknown)} survive; {took:.0f} s")  # fmt: skip
    return len(unknown) + len(wrong)


if __name__ == "__main__":
    sys.exit(min(main(sys.argv[1:]), 1))
