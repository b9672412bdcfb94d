"""Videos of episodes: every thing is drawn where it is, and browsers can play the file."""

import math

import numpy as np
import pytest

from robot.core.errors import DatasetError
from robot.learn import render
from robot.learn.canvas import Canvas, gradient

av = pytest.importorskip("av")
BRIGHT = 0.6


def make_trace(outcome="success", steps=5, goal=(9.0, 2.0), values=True):
    """A robot that drives along y = 2 in a 12 m square room with a wall at its upper end."""
    classes = np.zeros((240, 240), np.uint8)
    classes[-10:] = render.TALL
    classes[100:110, 100:110] = render.LOW
    reach = 0.16 * np.arange(1, 25)
    plans = []
    for k in range(steps):
        pose = np.array([2.0 + 0.4 * k, 2.0, 0.0])
        fan = [pose[:2] + np.stack([reach * math.cos(a), reach * math.sin(a)], axis=1) for a in (-0.5, 0.0, 0.5)]
        scores = np.array([0.1, 0.9, 0.4]) if values else None
        depth = np.linspace(0.0, 5.0, 48 * 64).reshape(48, 64)
        plans.append(render.Step(pose, fan[1], np.array(fan), scores, np.array([[5.0, 6.0, 0.3]]), depth, 0.5))
    return render.Trace(
        classes, 0.05, 0.3, 1.5, 0.4, None if goal is None else np.array(goal), 1.0, 7, "home", "wheeled", outcome, plans
    )


def near(picture, point, colour, within=4):
    """Whether some pixel around `point` (x, y) is nearly of that colour."""
    x, y = np.round(point).astype(int)
    patch = picture[y - within : y + within + 1, x - within : x + within + 1].astype(float) / 255
    return bool((np.abs(patch - np.array(colour)).max(-1) < 0.15).any())


def test_things_are_drawn_where_they_are():
    trace = make_trace()
    board = render._Board(trace)
    picture = board.draw(0, 0.0, final=False)
    assert picture.shape == (render.SIZE, render.SIZE + render.PANEL, 3)
    px = lambda *p: board.px(np.array(p))  # noqa: E731
    assert near(picture, px(9.0, 2.0), render.GOAL)
    assert near(picture, px(1.8, 2.0), render.ROBOT)
    assert near(picture, px(5.0, 2.0), render.CHOSEN)
    assert near(picture, px(5.25, 5.25), render.FURNITURE)
    assert near(picture, px(5.2, 6.0), render.PERSON)
    end = trace.steps[0].candidates[2, 20]
    assert near(picture, px(*end), board.colour(0.4))
    assert not near(picture, px(3.0, 5.0), board.colour(0.4))


def test_the_map_is_north_up_and_x_to_the_right():
    board = render._Board(make_trace())
    origin, right, up = board.px(np.array([[3.0, 3.0], [4.0, 3.0], [3.0, 4.0]]))
    np.testing.assert_allclose(right - origin, [board.scale, 0.0], atol=1e-9)
    np.testing.assert_allclose(up - origin, [0.0, -board.scale], atol=1e-9)


def test_better_candidates_are_brighter():
    board = render._Board(make_trace())
    light = [sum(board.colour(value)) for value in (0.1, 0.3, 0.5, 0.7, 0.9)]
    assert light == sorted(light)
    assert light[-1] - light[0] > BRIGHT
    assert board.colour(math.nan) == render.QUIET


def test_the_robot_moves_between_plans_the_shorter_way_round():
    assert render._turn(3.0, -3.0) == pytest.approx(2 * math.pi - 6.0)
    trace = make_trace(steps=2)
    pictures = list(render.frames(trace, fps=20))
    moving = len(pictures) - round(render.HOLD * 20)
    assert moving == 2
    assert (pictures[0] != pictures[1]).any()


@pytest.mark.parametrize(("outcome", "colour"), [("success", render.GOAL), ("collision", render.BAD)])
def test_the_last_picture_tells_the_outcome(outcome, colour):
    trace = make_trace(outcome, steps=2)
    *_, last = render.frames(trace)
    assert near(last, (render.SIZE / 2 - 70, 40), colour)
    x, y = render._Board(trace).px(trace.steps[-1].pose)
    assert near(last, (x, y - 0.25 * 50), colour, within=8)


def test_an_episode_without_goal_values_people_or_depth_is_drawn():
    trace = make_trace("timeout", steps=2, goal=None, values=False)
    for step in trace.steps:
        step.discs, step.depth = np.zeros((0, 3)), None
    trace.steps[1].candidates = None
    assert len(list(render.frames(trace))) > len(trace.steps)
    trace.steps.clear()
    with pytest.raises(DatasetError, match="episode 7"):
        next(render.frames(trace))


def test_the_video_is_h264_small_and_complete(tmp_path):
    trace = make_trace(steps=8)
    path = render.render(trace, tmp_path / "a" / "episode.mp4")
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        count = sum(1 for _ in container.decode(video=0))
    assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
    assert count == 7 * 2 + 30
    assert path.stat().st_size < 200_000
    assert [p.name for p in path.parent.iterdir()] == ["episode.mp4"]


def test_a_failed_encoding_leaves_nothing(tmp_path):
    with pytest.raises(DatasetError):
        render.write_video(tmp_path / "x.mp4", [])
    assert not list(tmp_path.iterdir())


def test_an_animated_picture_for_pages_without_video(tmp_path):
    from PIL import Image

    pictures = [np.full((20, 30, 3), level, np.uint8) for level in (0, 100, 200)]
    with Image.open(render.write_video(tmp_path / "x.webp", pictures)) as image:
        assert (image.n_frames, image.size) == (3, (30, 20))


def test_height_classes_follow_the_robots_height():
    class Scene:
        def occupied(self, bottom, top):
            solids = [(0.0, 2.5), (0.0, 0.7), (0.9, 1.0), (0.0, 0.02)]
            return np.array([[high > bottom and low < top for low, high in solids]])

    tall, low, table, free = render.TALL, render.LOW, render.OVERHEAD, render.FREE
    assert render.height_classes(Scene(), 0.45).tolist() == [[tall, low, table, free]]
    assert render.height_classes(Scene(), 1.35).tolist() == [[tall, low, low, free]]


def test_lines_are_smooth_and_clipped():
    canvas = Canvas(40, 40)
    canvas.image(0, 0, np.zeros((40, 40, 3), np.uint8))
    canvas.clip((0, 0, 20, 40))
    canvas.line([(2, 2), (38, 30)], (1.0, 1.0, 1.0), 2.0)
    levels = canvas.pixels[..., 0]
    assert len(np.unique(levels)) > 5
    assert (levels[:, 21:] == 0).all()
    assert gradient([[0, 0, 0], [1, 1, 1]], 0.25).tolist() == [0.25] * 3
