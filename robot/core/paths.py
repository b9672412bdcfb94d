"""Where things are, from a checkout, a wheel or an editable install alike."""

from pathlib import Path

import robot

ROOT = Path(robot.__file__).resolve().parent.parent
CONFIGS = ROOT / "configs"
ASSETS = ROOT / "assets"
PRETRAINED = ASSETS / "pretrained"
