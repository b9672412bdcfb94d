"""Every small slip in the command gate is noticed by its tests: a sample here, all of them where there is time."""

import random

import pytest

from tests.hardware import mutation


def test_slips_are_noticed_and_the_original_is_not():
    lines, run = mutation.FILE.read_text().splitlines(), mutation.checks(golden=True)
    chosen = [mutant for mutant in mutation.mutants() if mutation.entry(mutant, lines) not in mutation.EQUIVALENT]
    assert len(chosen) > 500
    assert not mutation.noticed(mutation.Mutant(0, "", mutation.original), run)
    sample = random.Random(3).sample(chosen, 6)
    assert [f"{m.line}: {m.change}" for m in sample if not mutation.noticed(m, run)] == []


@pytest.mark.slow
def test_no_slip_survives(capsys):
    assert mutation.main(["workers=2"]) == 0, capsys.readouterr().out
