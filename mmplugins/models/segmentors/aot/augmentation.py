"""Test-time augmentation: a video is tracked in several views at once, mirrored and at other sizes.

Released code of AOT: networks/managers/evaluator.py and ``MultiRestrictSize`` of dataloaders/video_transforms.py.

Deliberate difference: views are resized (bicubic, as there) from the network's input, not from the file's frame.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmplugins.functional.device import full_precision

from .engine import VideoEngine
from .fusion import inference_network
from .network import AOTNetwork
from .settings import TestSettings


class View(NamedTuple):
    """How a frame is changed.

    Attributes:
        scale: Factor of its size.
        mirrored: Whether left and right are swapped, after the scaling.
    """

    scale: float
    mirrored: bool

    def of(self, image: Tensor, network: AOTNetwork) -> Tensor:
        """Returns the view of an image (1, 3, H, W), of a size that the network takes."""
        if self.scale != 1:
            size = network.fitting_size([self.scale * length for length in image.shape[2:]])
            image = F.interpolate(image, size, mode='bicubic', align_corners=network.align_corners)
        return self.turned(image)

    def turned(self, x: Tensor) -> Tensor:
        """Mirrors what ends in dimensions H, W, if the view is mirrored; the same thing takes it back."""
        return x.flip(-1) if self.mirrored else x


class AugmentedEngine:
    """Tracks a video in several views; it has the calls of ``VideoEngine``, and its contracts.

    1. Each view has its own engine, with its own memory, of the view's size.
    2. The probabilities of a frame, resized to the output and mirrored back, are averaged over the views.
    3. The mask that is made of them goes into the memories of all views.

    Args:
        network: The network, in evaluation mode.
        settings: What ``test_cfg`` says.
    """

    def __init__(self, network: AOTNetwork, settings: TestSettings) -> None:
        self.network = inference_network(network) if settings.fast else network
        self.views = [View(scale, side) for scale in settings.scales for side in (False, True)[: 1 + settings.flip]]
        self.engines = [VideoEngine(self.network, settings.gap, settings.max_stored, False) for _ in self.views]

    @property
    def num_objects(self) -> int:
        """Objects so far."""
        return self.engines[0].num_objects

    @property
    def frame(self) -> int:
        """Index of the current frame, from 0; -1 before the first."""
        return self.engines[0].frame

    def add_reference(self, image: Tensor | None, mask: Tensor, num_objects: int | None = None) -> None:
        """Takes in a frame whose mask is given; see ``VideoEngine.add_reference``."""
        for view, engine in zip(self.views, self.engines, strict=True):
            frame = None if image is None else view.of(image, self.network)
            engine.add_reference(frame, view.turned(mask), num_objects)

    @torch.no_grad()
    def propagate(self, image: Tensor, size: Sequence[int] | None = None) -> Tensor:
        """Computes the logits of the next frame, logarithms of the averaged probabilities; see ``VideoEngine``."""
        size = size or image.shape[2:]
        total = 0
        for view, engine in zip(self.views, self.engines, strict=True):  # step 2
            logits = engine.propagate(view.of(image, self.network), size)
            total = total + view.turned(full_precision(logits).softmax(1))
        return (total / len(self.views)).clamp(min=torch.finfo(torch.float32).tiny).log()

    def remember(self, mask: Tensor) -> None:
        """Takes in the mask of the frame that was propagated last (step 3); see ``VideoEngine.remember``."""
        for view, engine in zip(self.views, self.engines, strict=True):
            engine.remember(view.turned(mask))


def engine_for(network: AOTNetwork, settings: TestSettings) -> VideoEngine | AugmentedEngine:
    """Makes the engine of one video; without augmentation it is a plain ``VideoEngine``."""
    if settings.augmented:
        return AugmentedEngine(network, settings)
    return VideoEngine(network, settings.gap, settings.max_stored, settings.fast)
