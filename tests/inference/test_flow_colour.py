"""Flow colours: the published wheel, hues by direction, unknown pixels, and the classes of the error map."""

import colorsys

import numpy as np
import pytest

from egoflow.inference.flow_colour import (
    ERROR_EDGES_PX,
    colour_wheel,
    error_colours,
    error_legend,
    flow_colours,
    flow_legend,
)


def _hue_deg(x: float, y: float) -> float:
    colour = flow_colours(np.array([x, y], float).reshape(2, 1, 1), largest=1.0)[0, 0]
    return 360 * colorsys.rgb_to_hsv(*(colour / 255))[0]


def test_the_wheel_has_the_published_steps() -> None:
    wheel = colour_wheel()
    assert wheel.shape == (55, 3)
    corners = {0: (255, 0, 0), 15: (255, 255, 0), 21: (0, 255, 0), 25: (0, 255, 255), 36: (0, 0, 255),
               49: (255, 0, 255)}
    assert {place: tuple(wheel[place]) for place in corners} == corners
    assert tuple(wheel[1]) == (255, 17, 0)
    assert tuple(wheel[22]) == (0, 255, 63)
    assert tuple(wheel[54]) == (255, 0, 43)
    assert len(np.unique(wheel, axis=0)) == 55


def test_directions_have_their_hues() -> None:
    assert _hue_deg(1, 0) == pytest.approx(0, abs=1)
    # A quarter of the way round the 55 colours is 13.5 of 15 steps from red to yellow.
    assert _hue_deg(0, 1) == pytest.approx(54, abs=1)
    assert _hue_deg(-1, 0) == pytest.approx(180 + 60 * 2 / 11, abs=1)
    assert _hue_deg(0, -1) == pytest.approx(240 + 60 * 4.5 / 13, abs=1)


def test_length_is_saturation_up_to_the_largest_and_darker_beyond() -> None:
    flow = np.zeros((2, 1, 5))
    flow[0, 0] = (0, 1, 2, 4, np.nan)
    assert flow_colours(flow, largest=2.0)[0].tolist() == [[255, 255, 255], [255, 127, 127], [255, 0, 0], [191, 0, 0],
                                                           [0, 0, 0]]
    valid = np.array([[True, True, True, False, False]])
    assert flow_colours(flow, valid)[0].tolist() == [[255, 255, 255], [255, 127, 127], [255, 0, 0], [0, 0, 0],
                                                     [0, 0, 0]]
    assert (flow_colours(np.zeros((2, 3, 4))) == 255).all()
    assert not flow_colours(np.full((2, 3, 4), np.nan)).any()


def test_the_legend_shows_the_flow_from_its_centre() -> None:
    legend = flow_legend(101)
    assert legend.shape == (101, 101, 3)
    assert legend[50, 50].tolist() == [255, 255, 255]
    assert (legend[0, 0] == 255).all()
    for x, y in ((100, 50), (50, 100), (0, 50), (50, 0)):
        direction = np.array([(x - 50) / 50.5, (y - 50) / 50.5]).reshape(2, 1, 1)
        assert legend[y, x].tolist() == flow_colours(direction, largest=1.0)[0, 0].tolist()


def test_errors_turn_from_blue_to_yellow_where_fl_begins() -> None:
    def reddish(error: float, length: float) -> bool:
        truth = np.array([length, 0.0]).reshape(2, 1, 1)
        colour = error_colours(truth + np.array([0.0, error]).reshape(2, 1, 1), truth, np.ones((1, 1), bool))[0, 0]
        return bool(colour[0] > colour[2])

    cases = {(3.0, 10): False, (3.01, 10): True, (3.01, 100): False, (5.0, 100): False, (5.01, 100): True}
    assert {case: reddish(*case) for case in cases} == cases


def test_error_classes_double_and_the_legend_has_them_all() -> None:
    assert np.divide(ERROR_EDGES_PX[1:], ERROR_EDGES_PX[:-1]).tolist() == [2.0] * 8
    error = np.array([0.0, *(edge * 1.01 for edge in ERROR_EDGES_PX)])
    flow = np.stack((error, np.zeros(10)))[:, None]
    colours = error_colours(flow, np.zeros((2, 1, 10)), np.ones((1, 10), bool))
    assert (error_legend(10, 3) == colours).all()
    valid = np.arange(10)[None] % 2 == 0
    spoilt = error_colours(np.where(valid, flow, np.nan), np.zeros((2, 1, 10)), valid)
    assert (spoilt == np.where(valid[..., None], colours, 0)).all()
