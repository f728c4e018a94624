"""Pictures: lines where the paths are, equal colours for equal depth, words that fit."""

import cv2
import numpy as np
import pytest

from egoflow.inference.colour import ColourScale
from egoflow.inference.flow_colour import error_colours
from egoflow.report.figures import PALETTE, depth_figure, flow_figure, path_figure

GREY = 128


def _where(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Return the pixels (x, y) of exactly this colour."""
    y, x = np.nonzero((picture == colour).all(axis=2))
    return np.stack((x, y), 1)


def _line(dx: float, dz: float) -> np.ndarray:
    return np.linspace([0, 0, 0], [dx, 0, dz], 20)


def test_a_path_ahead_goes_up_and_one_to_the_right_goes_right() -> None:
    picture = path_figure({"ahead": _line(0, 30), "right": _line(30, 0)}, size=500)
    assert picture.shape == (500, 500, 3)
    below = 120  # The legend has the same colours.
    ahead, right = (p[p[:, 1] > below] for p in (_where(picture, PALETTE[0]), _where(picture, PALETTE[1])))
    assert np.ptp(ahead[:, 1]) > 8 * np.ptp(ahead[:, 0])
    assert np.ptp(right[:, 0]) > 8 * np.ptp(right[:, 1])
    # One scale for both axes.
    assert np.ptp(ahead[:, 1]) == pytest.approx(np.ptp(right[:, 0]), abs=20)
    # Both begin at the lower left, and everything is inside.
    assert ahead[:, 1].max() == pytest.approx(right[:, 1].mean(), abs=15)
    assert ahead[:, 0].mean() == pytest.approx(right[:, 0].min(), abs=15)
    assert 0 < right[:, 0].max() < 499


@pytest.mark.parametrize("span", [1e-3, 0.7, 30.0, 5e4])
def test_every_path_is_in_the_legend_and_any_span_fits(span: float) -> None:
    paths = {f"path {i}": _line(span * i, span) for i in range(6)}
    picture = path_figure(paths, unit="m")
    for colour in PALETTE[:6]:
        assert len(_where(picture[:180, :60], colour)) > 20
        assert len(_where(picture[180:], colour)) > 20


def test_a_path_that_stands_still_is_drawn() -> None:
    assert path_figure({"still": np.zeros((4, 3))}).shape[0] == 720


def test_equal_depth_has_equal_colour_once_scaled() -> None:
    image = np.full((60, 320, 3), 200, np.uint8)
    truth = np.tile(np.linspace(4, 40, 320), (60, 1))
    truth[:20] = np.nan
    picture = depth_figure([(image, truth / 7, truth)])
    column = picture.shape[1] // 3
    rows = slice(26 + 3 + 25, 26 + 3 + 55)
    predicted, true = picture[rows, column + 3:column + 323], picture[rows, 2 * column + 3:2 * column + 323]
    np.testing.assert_array_equal(predicted, true)
    # Near is bright; what is not known is grey.
    assert int(true[10, 10].sum()) > int(true[10, 300].sum()) + 200
    assert (picture[26 + 3:26 + 3 + 20, 2 * column + 3:2 * column + 323] == GREY).all()


@pytest.mark.parametrize("width", [24, 100, 288, 416, 1242])
def test_titles_fit_above_their_pictures(width: int) -> None:
    depth = np.full((20, width), 3.0)
    titles = ("image", "predicted inverse depth", "true inverse depth")
    picture = depth_figure([(np.zeros((20, width, 3), np.uint8), depth, depth)] * 2, titles=titles)
    widest = max(cv2.getTextSize(t, cv2.FONT_HERSHEY_SIMPLEX, 0.48, 1)[0][0] for t in titles)
    assert widest < picture.shape[1] // 3
    alone = depth_figure([(np.zeros((20, width, 3), np.uint8), depth, None)])
    assert alone.shape[1] == picture.shape[1] * 2 // 3


def test_the_colour_scale_follows_slowly_and_greys_what_is_not_finite() -> None:
    scale = ColourScale(inertia=0.9)
    ramp = np.tile(np.linspace(0, 1, 50), (4, 1))
    first = scale(ramp)
    assert int(first[0, -1].sum()) > int(first[0, 0].sum()) + 300
    # A frame twice as near is shown nearly with the old scale: most of it is at the bright end, not spread anew.
    second = scale(2 * ramp)
    assert (second[0, 30:] == second[0, -1]).all()
    value = ramp.copy()
    value[0, 0], value[1, 1] = np.nan, np.inf
    assert (ColourScale()(value)[[0, 1], [0, 1]] == GREY).all()
    assert ColourScale()(np.full((3, 3), np.nan)).shape == (3, 3, 3)


def test_flows_share_colours_and_errors_stand_beside_them() -> None:
    truth = np.stack((np.tile(np.linspace(-8, 8, 320), (60, 1)), np.full((60, 320), 3.0)))
    valid = np.arange(320)[None] < np.full((60, 1), 300)
    truth[:, ~valid] = np.nan
    good = np.where(valid, truth, 0)
    picture = flow_figure(truth, valid, {"ours": (good, valid), "worse": (good + 20, valid)})
    column = picture.shape[1] // 3
    for row, error in ((26 + 3, error_colours(good, truth, valid)), (60 + 6 + 2 * 26 + 3, None)):
        tiles = [picture[row:row + 60, index * column + 3:index * column + 323] for index in range(3)]
        if error is None:
            # 20 px and more wrong: dark red; unknown stays black.
            assert (tiles[2][:, :300, 0] > 2 * tiles[2][:, :300, 2]).all()
            assert not tiles[0][:, 300:].any()
        else:
            np.testing.assert_array_equal(tiles[0], tiles[1])
            np.testing.assert_array_equal(tiles[2], error)


@pytest.mark.parametrize("width", [24, 320, 1242])
def test_the_legends_of_a_flow_figure_fit(width: int) -> None:
    flow = np.full((2, 20, width), 3.0)
    picture = flow_figure(flow, np.ones((20, width), bool), {"zero": (0 * flow, np.zeros((20, width), bool))})
    assert picture.shape[1] >= 960
    assert (picture[-93:, -30:] == 255).all()
    assert len(np.unique(picture[-93:].reshape(-1, 3), axis=0)) > 100
