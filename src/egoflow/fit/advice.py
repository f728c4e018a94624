"""What to try next, from what a fit has found."""

from typing import Any

from egoflow.doctor.intrinsics import WRONG_CAMERA
from egoflow.fit.footage import Footage

FEW_FRAMES = 200
SPREAD, RETURN = 0.1, 0.1
UNEXPLAINED = 0.6
STILL_FALLING = 1.01
"""The last score is the lowest of all, but for what a few steps do."""


def advice(footage: Footage, figures: dict[str, Any]) -> list[str]:
    """Return sentences, the most useful first; never none."""
    left, said = figures["unexplained"], []
    facts = [footage.facts[shot.facts] for shot in footage.shots]
    wrong = [finding["text"] for about in facts for finding in about["findings"] if finding["name"] == WRONG_CAMERA]
    if figures["trained_steps"] < figures["steps"]:
        said.append(f"Training was ended at step {figures['trained_steps']} of {figures['steps']}: the machine was "
                    "busy. What is learnt last, such as flow, may be hardly trained; fit again into another --out.")
    if wrong:
        said.append(f"Mind the camera: {wrong[0]}. With a wrong one depth is bent and the path turns too little or too "
                    "much: fit again, into another --out, with the right one or --camera learn.")
    if any(about["camera"]["from"] == "assumed" for about in facts):
        said.append("Tell the camera: --camera camera.json, or fov=DEGREES. The footage does not show its focal "
                    "length, and with a wrong one depth is bent and the path turns too little or too much.")
    if left["chosen"] is not None and left["flat_depth"] and left["chosen"] > UNEXPLAINED * left["flat_depth"]:
        said.append("Depth explains little of how the images move. Train longer (--budget), or look at what the doctor "
                    "says of the footage.")
    elif left["by_step"] and figures["chosen_step"] < left["by_step"][-1][0]:
        said.append("Depth got worse towards the end of training: more footage of the same kind will help more than a "
                    "longer --budget.")
    elif left["by_step"] and left["by_step"][-1][1] <= STILL_FALLING * min(score for _, score in left["by_step"]):
        said.append("The last checkpoint left the least unexplained: a longer --budget will give better depth.")
    if sum(shot["frames"] for shot in figures["shots"]) < FEW_FRAMES:
        said.append("Film more: with fewer than 200 frames a network learns these views by heart, and other clips of "
                    "the same place will be worse.")
    if _worst(figures, "depth_ratio_spread") > SPREAD:
        said.append("Depths of neighbouring frames differ in scale: the path drifts. Frames that move more "
                    f"(--set data.gap={figures['gap'] + 1}) or a longer --budget hold them together.")
    if _worst(figures, "return_share") > RETURN:
        said.append("A step there and back does not lead home: motion is uncertain. Look at the flow and at what moves "
                    "by itself, in the player above.")
    if figures["scale"] == "relative":
        said.append("Lengths are in no unit: egoflow scale RUN with a speed, a camera height, a GPS track or a known "
                    "distance makes them metres.")
    return said or ["Nothing stands out. Try other clips of the same camera: egoflow predict RUN CLIP --out DIR."]


def _worst(figures: dict[str, Any], name: str) -> float:
    """Return the largest value of a figure of self-consistency over the shots, 0 where none is known."""
    return max((shot["self_consistency"].get(name) or 0.0 for shot in figures["shots"]), default=0.0)
