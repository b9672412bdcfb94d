"""The local map's distances against scipy, its clearance against a wall whose place is known, look-ups against a formula."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt

from policies.nn.local_map import CLEARANCE, FREE, SOLID, LocalMap, LocalMapConfig, distance_to, look_up
from robot.core.errors import ConfigError

CONFIG = LocalMapConfig(
    cells=160, resolution=0.05, view_cells=64, view_resolution=0.1, hit=0.6, clear=0.5, forget=0.99, near_cells=64, reach=0.4
)
BODY = (0.25, 0.45, 0.3, 0.0, math.radians(90), 0.8, 1.5, 1.0, 4.0, 0.0, 0.0)


def facing_a_wall(distance: float, yaw: float = 0.0) -> dict[str, torch.Tensor]:
    """A flat wall across the whole view of a level camera; the floor is seen in front of it."""
    rows = torch.arange(48) + 0.5 - 24
    floor = 0.3 / (rows / 32).clamp(min=1e-6)
    depth = torch.minimum(floor, torch.tensor(distance))[:, None].expand(48, 64)
    return {"depth": depth[None].clone(), "odometry": torch.tensor([[0.0, 0.0, yaw]]), "robot": torch.tensor([BODY])}


@pytest.mark.parametrize("limit", [3, 12])
def test_distances_equal_scipys(limit: int):
    solid = np.random.default_rng(limit).random((3, 30, 41)) < 0.01
    expected = np.stack([np.minimum(distance_transform_edt(~part), limit) for part in solid])
    np.testing.assert_allclose(distance_to(torch.from_numpy(solid), limit).numpy(), expected, atol=1e-5)


def test_nothing_solid_is_as_far_as_the_limit():
    assert torch.equal(distance_to(torch.zeros(1, 5, 5, dtype=torch.bool), 4), torch.full((1, 5, 5), 4.0))


@pytest.mark.parametrize("yaw", [0.0, 0.7, -2.5])
def test_clearance_is_the_room_between_the_body_and_the_wall(yaw: float):
    local = LocalMap(CONFIG, 5.0)
    views, _ = local.update(local.initial(1), facing_a_wall(1.2, yaw))
    ahead = torch.tensor([0.6, 0.8, 1.0, 1.1])
    points = torch.stack([ahead, torch.zeros(4)], dim=-1)[None, None]
    true = (1.2 - ahead - BODY[0]) / CONFIG.reach
    near = look_up(views["near"], points, CONFIG.resolution)[0, 0, :, 0]
    coarse = look_up(views["view"], points, CONFIG.view_resolution)[0, 0, :, CLEARANCE]
    torch.testing.assert_close(near, true.clamp(max=1.0), rtol=0, atol=CONFIG.resolution / CONFIG.reach)
    torch.testing.assert_close(coarse, true.clamp(max=1.0), rtol=0, atol=CONFIG.view_resolution / CONFIG.reach)
    assert float(near[3]) < 0, "0.1 m from the wall the body would be in it"


def test_a_wider_body_has_less_room():
    local = LocalMap(CONFIG, 5.0)
    observation = facing_a_wall(1.0)
    slim = local.update(local.initial(1), observation)[0]["near"]
    observation["robot"][:, 0] += 0.1
    wide = local.update(local.initial(1), observation)[0]["near"]
    close = slim < 0.99
    torch.testing.assert_close((slim - wide)[close], torch.full((int(close.sum()),), 0.1 / CONFIG.reach), rtol=0, atol=1e-4)


def test_pooling_keeps_thin_walls():
    """One cell of 5 cm is solid; the view of 10 cm cells must not step over it."""
    local = LocalMap(CONFIG, 5.0)
    for yaw in np.linspace(-3, 3, 9):
        view = local.update(local.initial(1), facing_a_wall(1.03, float(yaw)))[0]["view"]
        across = view[0, SOLID, :, 30:34].amax(0)
        assert float(across.min()) > 0.3
        assert float(view[0, FREE, 36, 32]) > 0.9


def test_look_up_is_bilinear_and_extends_the_border():
    rows, cols = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    view = torch.stack([(rows - 3.5) * 0.5, (cols - 3.5) * 0.5])[None]
    points = torch.tensor([[0.3, -0.6], [1.1, 1.7], [9.0, -9.0]])[None, None]
    expected = torch.tensor([[0.3, -0.6], [1.1, 1.7], [1.75, -1.75]])
    torch.testing.assert_close(look_up(view, points, 0.5)[0, 0], expected)


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match="view_resolution"):
        LocalMap(LocalMapConfig(160, 0.05, 64, 0.12, 0.6, 0.5, 0.99, 64, 0.4), 5.0)
