"""Film the wheeled robot in MuJoCo: the expert (or any policy) drives, a camera follows, the robot's own view is inset.

    MUJOCO_GL=egl python -m robot.examples.render_mujoco policy=expert seed=3 output=film.mp4

Takes the keys of robot.evaluate; one episode. Without a display MUJOCO_GL must be egl or osmesa; egl is tried by itself.
"""

import os
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from omegaconf import DictConfig

from robot.core.cli import entry

SIZE, INSET = (480, 640), (120, 160)


@entry("evaluate")
def film(cfg: DictConfig) -> None:
    """Film one episode."""
    os.environ.setdefault("MUJOCO_GL", "egl")
    import mujoco
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    from robot.core.config import build
    from robot.learn import runs
    from robot.learn.video import write_video

    OmegaConf.update(cfg, "env.num_envs", 1)
    env = build(OmegaConf.merge(cfg.env, {"split": cfg.split}), "env")
    policy = runs.make_policy(cfg.policy, HydraConfig.get().runtime.choices["policy"], env)
    observation, _ = env.reset(seed=cfg.seed or 0)
    base = env.base(0)
    try:
        renderer = mujoco.Renderer(base.model, *SIZE)
    except (ImportError, AttributeError, RuntimeError, mujoco.FatalError) as error:
        print(f"cannot render here ({error}); set MUJOCO_GL=egl or MUJOCO_GL=osmesa and install libegl1 or libosmesa6")
        return
    drive, pictures = env._drive, []
    env._drive = lambda *arguments: (drive(*arguments), pictures.append(picture(renderer, base)))
    memory, done = policy.initial_memory(1), False
    while not done:
        plan = policy.plan(observation, memory, None)
        observation, _, terminated, truncated, info = env.step(plan.actions[:, 0])
        memory, done = plan.memory, bool(terminated | truncated)
    success = bool(info["final_info"]["success"][0])
    file = write_video(cfg.output or "film.mp4", pictures, fps=round(1 / env.config.control_dt))
    print(f"{len(pictures)} pictures, {'arrived' if success else 'did not arrive'}: {file}")


def picture(renderer: Any, base: Any) -> np.ndarray:
    """One frame (480, 640, 3): from above, with the robot's own view in the corner."""
    import mujoco

    data = base.synchronise()
    x, y, yaw = base.pose
    camera = mujoco.MjvCamera()
    camera.lookat[:] = x + 0.5 * np.cos(yaw), y + 0.5 * np.sin(yaw), 0.2
    camera.distance, camera.azimuth, camera.elevation = 4.5, 90.0, -82.0
    base.model.vis.headlight.ambient[:], base.model.vis.headlight.diffuse[:] = 0.45, 0.55
    roofless = mujoco.MjvOption()
    roofless.geomgroup[1] = 0
    renderer.update_scene(data, camera, roofless)
    frame = renderer.render().copy()
    renderer.update_scene(data, "eye")
    rows, columns = (size // inset for size, inset in zip(SIZE, INSET, strict=True))
    frame[: INSET[0], -INSET[1] :] = renderer.render()[::rows, ::columns]
    return frame


def main(arguments: Sequence[str] | None = None) -> None:
    film(["env=navigation_mujoco", *(sys.argv[1:] if arguments is None else arguments)])


if __name__ == "__main__":
    main()
