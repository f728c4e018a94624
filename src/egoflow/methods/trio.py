"""The three networks of what learns depth, camera motion and optical flow together, where a paper leaves the choice."""

from typing import Literal

from torch import nn

from egoflow.networks.pwcnet import pwc_lite, pwc_tiny
from egoflow.networks.resnet_depth import ResNetDepthNet
from egoflow.networks.resnet_motion import ResNetMotionNet
from egoflow.networks.tinynet import TinyDepthNet, TinyMotionNet


def networks(size: Literal["paper", "tiny"]) -> tuple[nn.Module, nn.Module, nn.Module]:
    """Return networks of depth, motion and flow: ResNet-18 twice and PWC-Lite, or those of minutes on a CPU."""
    if size == "paper":
        return ResNetDepthNet(), ResNetMotionNet(), pwc_lite(normalise=True)
    return TinyDepthNet(), TinyMotionNet(), pwc_tiny(normalise=True)
