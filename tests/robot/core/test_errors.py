"""The tree of errors, and the optional packages that end in one."""

import pytest

from robot.core import errors
from robot.core.optional import require


def test_every_error_is_one_that_entry_points_print() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert len(kinds) > 5
    assert all(issubclass(kind, errors.TillerError) for kind in kinds)


def test_require_names_the_extra() -> None:
    assert require("json", "sim").dumps({}) == "{}"
    with pytest.raises(errors.MissingExtraError, match=r"no_such_package.*pip install 'tiller\[perception\]'"):
        require("no_such_package", "perception")
