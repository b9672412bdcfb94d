"""What PX4 and ArduPilot call the modes that matter here, and how they tell of them."""

from dataclasses import dataclass
from enum import Enum


class Firmware(Enum):
    px4 = "px4"
    ardupilot = "ardupilot"


@dataclass(frozen=True)
class Modes:
    """Main and sub mode of each, as DO_SET_MODE takes them; ArduPilot has no sub modes."""

    obeys: tuple[int, int]
    """Setpoints from outside: PX4's offboard, ArduPilot's guided."""
    land: tuple[int, int]
    hover: tuple[int, int]
    packed: bool
    """Whether a heartbeat's custom_mode has them in its third and fourth byte (px4_custom_mode.h)."""

    def of(self, custom: int) -> int:
        """The main mode in a heartbeat's custom_mode."""
        return custom >> 16 & 0xFF if self.packed else custom

    def custom(self, mode: tuple[int, int]) -> int:
        """A heartbeat's custom_mode."""
        return mode[0] << 16 | mode[1] << 24 if self.packed else mode[0]


MODES = {
    Firmware.px4: Modes(obeys=(6, 0), land=(4, 6), hover=(4, 3), packed=True),
    Firmware.ardupilot: Modes(obeys=(4, 0), land=(9, 0), hover=(5, 0), packed=False),
}
"""ArduPilot's numbers are its copter's."""
