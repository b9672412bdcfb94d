"""Whether a policy is for a robot."""

from collections.abc import Callable

from robot.core.errors import InterfaceError
from robot.core.interface import Field, Interface


def equal(asked: Field, offered: Field) -> list[str]:
    """How an action that is to be the command itself differs from it, in words."""
    return Interface((), asked, 1.0).compare(Interface((), offered, 1.0))


def fit(asked: Interface, offered: Interface, accepts: Callable[[Field, Field], list[str]] = equal) -> None:
    """Refuse a policy that is for another robot. It may see less than the driver offers, and decide less often.

    Args:
        asked: the policy's.
        offered: the driver's.
        accepts: what is wrong with the policy's action for the driver's command, in words.

    Raises:
        InterfaceError: what differs, in words.
    """
    names = [name for name in asked.names if name in offered.names]
    seen = Interface(tuple(offered.field(name) for name in names), asked.action, asked.dt)
    wrong = [*asked.compare(seen), *accepts(asked.action, offered.action)]
    ratio = asked.dt / offered.dt
    if abs(ratio - round(ratio)) > 1e-6 or ratio < 1 - 1e-6:
        wrong.append(f"dt: the policy decides every {asked.dt} s, which is no multiple of the driver's {offered.dt} s")
    if wrong:
        raise InterfaceError(f"this policy is not for this robot: {'; '.join(wrong)}")
