"""Classical flows: shifts found to a fraction of a pixel, every size of image, the parameters that are promised."""

import cv2
import numpy as np
import pytest

from egoflow.geometry.classical_flow import dis_flow, farneback_flow, zero_flow


def _shifted(height: int, width: int, shift: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return a smooth random image as RGB, and the same with its content moved by ``shift`` (x, y)."""
    noise = np.random.default_rng(0).uniform(0, 255, (height + 40, width + 40, 3)).astype(np.float32)
    image = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 3), None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    x, y = shift
    return image[20:20 + height, 20:20 + width], image[20 - y:20 - y + height, 20 - x:20 - x + width]


@pytest.mark.parametrize("flow", [dis_flow, farneback_flow])
@pytest.mark.parametrize("shift", [(3, -2), (-5, 4), (0, 0)])
def test_a_shift_is_found_with_its_signs_and_axes(flow, shift: tuple[int, int]) -> None:
    found = flow(*_shifted(96, 128, shift))
    assert found.shape == (2, 96, 128)
    assert found.dtype == np.float32
    inner = found[:, 16:-16, 16:-16].reshape(2, -1)
    assert np.median(inner, axis=1) == pytest.approx(shift, abs=0.05)


@pytest.mark.parametrize("flow", [zero_flow, dis_flow, farneback_flow])
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (15, 40), (40, 15), (16, 16), (65, 130)])
def test_every_size_is_answered(flow, size: tuple[int, int]) -> None:
    # OpenCV's DIS crashes the interpreter at 15x40.
    image_a, image_b = np.random.default_rng(1).integers(0, 255, (2, *size, 3), dtype=np.uint8)
    found = flow(image_a, image_b)
    assert found.shape == (2, *size)
    assert np.isfinite(found).all()


@pytest.mark.parametrize("flow", [dis_flow, farneback_flow])
def test_grey_and_colour_images_give_one_flow(flow) -> None:
    images = _shifted(64, 64, (2, 1))
    grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in images]
    assert (flow(*grey) == flow(*images)).all()


def test_the_dis_preset_is_what_the_docstring_says() -> None:
    solver = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    assert (solver.getPatchSize(), solver.getPatchStride(), solver.getGradientDescentIterations(),
            solver.getFinestScale(), solver.getVariationalRefinementIterations()) == (8, 3, 25, 1, 5)
    assert (solver.getVariationalRefinementAlpha(), solver.getVariationalRefinementDelta(),
            solver.getVariationalRefinementGamma()) == (20, 5, 10)


def test_the_farneback_parameters_are_opencvs_defaults() -> None:
    images = _shifted(64, 96, (2, 1))
    solver = cv2.FarnebackOpticalFlow.create()
    by_default = solver.calc(*(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in images), None)
    assert (farneback_flow(*images) == np.moveaxis(by_default, 2, 0)).all()
