"""Hard-pixel losses: OHEM with the search on all pixels and on a coarser grid, and top-k.

The released formulas are written from their description: pytorch-segmentation-toolbox (loss/criterion.py) for OHEM,
AOT (networks/layers/loss.py) for top-k. Where the released code does more work than its formula needs, such as
copying the probabilities of all classes, they do not, so that the ratios favour them if anything.
"""

from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmplugins.models.losses import OhemCrossEntropyLoss, TopKCrossEntropyLoss

from ._case import Run, case
from ._scenes import street_scene

THRESH = 0.7
IGNORE = 255
TOP_K = 0.15
SMALL, TYPICAL, LARGE = (2, 19, 129, 129), (2, 19, 769, 769), (8, 19, 769, 769)

# In the small case min_kept decides the threshold, in the others thresh does. A pixel whose probability equals the
# threshold up to rounding may fall on either side: a few pixels in 100000 may differ, hence the tolerance.
OHEM_SIZES = {
    'small': {'shape': SMALL, 'min_kept': 10_000},
    'typical': {'shape': TYPICAL, 'min_kept': 100_000},
    'large': {'shape': LARGE, 'min_kept': 100_000},
    'tolerance': 5e-3,
}


@case('ohem', 'cross entropy over hard pixels, the threshold searched on all pixels', **OHEM_SIZES)
def ohem(device: torch.device, shape: tuple, min_kept: int) -> dict:
    """Makes the inputs."""
    logits, label = street_scene(shape, device)
    return {'logits': logits, 'label': label, 'min_kept': min_kept}


@ohem.contender('ours')
def ohem_ours(logits: Tensor, label: Tensor, min_kept: int) -> Run:
    """Builds ours."""
    loss = OhemCrossEntropyLoss(thresh=THRESH, min_kept=min_kept)
    return lambda: loss(logits, label)


@ohem.contender('mmseg', host='mmseg', up_to_factor='divides by all valid pixels instead of the kept ones')
def ohem_mmseg(logits: Tensor, label: Tensor, min_kept: int) -> Run:
    """Builds mmseg's sampler and loss, called as its decode heads call them."""
    from mmseg.models.losses import CrossEntropyLoss
    from mmseg.structures import OHEMPixelSampler

    # min_kept is one image's there; this makes it the same number for the batch.
    sampler = OHEMPixelSampler(SimpleNamespace(ignore_index=IGNORE), THRESH, min_kept // len(logits))
    loss = CrossEntropyLoss(avg_non_ignore=True)
    return lambda: loss(logits, label, weight=sampler.sample(logits, label[:, None]), ignore_index=IGNORE)


@ohem.contender('released')
def ohem_released(logits: Tensor, label: Tensor, min_kept: int) -> Run:
    """Builds the released formula, the search on all pixels."""
    return lambda: released_ohem(logits, label, THRESH, min_kept, factor=1)


@case('ohem_stride8', 'cross entropy over hard pixels, the threshold searched at 1/8 size', **OHEM_SIZES)
def ohem_stride8(device: torch.device, shape: tuple, min_kept: int) -> dict:
    """Makes the inputs."""
    logits, label = street_scene(shape, device)
    return {'logits': logits, 'label': label, 'min_kept': min_kept}


@ohem_stride8.contender('ours')
def ohem_stride8_ours(logits: Tensor, label: Tensor, min_kept: int) -> Run:
    """Builds ours."""
    loss = OhemCrossEntropyLoss(thresh=THRESH, min_kept=min_kept, threshold_stride=8)
    return lambda: loss(logits, label)


@ohem_stride8.contender('released')
def ohem_stride8_released(logits: Tensor, label: Tensor, min_kept: int) -> Run:
    """Builds the released formula as it is run, the search at 1/8 size."""
    return lambda: released_ohem(logits, label, THRESH, min_kept, factor=8)


def released_ohem(logits: Tensor, label: Tensor, thresh: float, min_kept: int, factor: int) -> Tensor:
    """OHEM as released: the search in NumPy on the host, then cross entropy with a new label map.

    Args:
        logits: Shape (N, C, H, W).
        label: int64, shape (N, H, W).
        thresh: Probability up to which a pixel is hard.
        min_kept: Least number of pixels of the batch to keep.
        factor: The threshold is searched on maps zoomed by 1/factor.

    Returns:
        Mean cross entropy over the kept pixels, a scalar.
    """
    with torch.no_grad():
        prob = logits.softmax(1).cpu().numpy()
    target = label.cpu().numpy()
    if factor == 1:
        searched, search_target = prob, target
    else:
        from scipy.ndimage import zoom

        searched = zoom(prob, (1, 1, 1 / factor, 1 / factor), order=1)
        search_target = zoom(target, (1, 1 / factor, 1 / factor), order=0)
        min_kept //= factor**2

    values = _true_class(searched, search_target)[search_target != IGNORE]
    if min_kept >= values.size:
        threshold = 1.0
    elif min_kept > 0:
        threshold = max(thresh, np.partition(values, min_kept - 1)[min_kept - 1])
    else:
        threshold = thresh
    new_target = np.where(_true_class(prob, target) <= threshold, target, IGNORE)
    return F.cross_entropy(logits, torch.from_numpy(new_target).to(label.device), ignore_index=IGNORE)


def _true_class(prob: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Probability of the true class, (N, H, W); that of class 0 where ignored."""
    index = np.where(target == IGNORE, 0, target)[:, None]
    return np.take_along_axis(prob, index, axis=1)[:, 0]


@case(
    'topk',
    'cross entropy over the hardest 15 % of the pixels of each image',
    small={'shape': SMALL},
    typical={'shape': TYPICAL},
    large={'shape': LARGE},
)
def topk(device: torch.device, shape: tuple) -> dict:
    """Makes the inputs."""
    logits, label = street_scene(shape, device)
    return {'logits': logits, 'label': label}


@topk.contender('ours')
def topk_ours(logits: Tensor, label: Tensor) -> Run:
    """Builds ours, past the end of the annealing."""
    loss = TopKCrossEntropyLoss(top_k_percent_pixels=TOP_K, hard_example_mining_step=50_000)
    return lambda: loss(logits, label, step=60_000)


@topk.contender('released')
def topk_released(logits: Tensor, label: Tensor) -> Run:
    """Builds the released formula."""
    return lambda: released_topk(logits, label)


def released_topk(logits: Tensor, label: Tensor) -> Tensor:
    """Top-k cross entropy as released, after the annealing: sorted top-k, mean per image, mean over images."""
    pixel_loss = F.cross_entropy(logits, label, ignore_index=IGNORE, reduction='none').flatten(1)  # (N, HW)
    hardest, _ = pixel_loss.topk(int(TOP_K * pixel_loss.shape[1]), dim=1)
    return hardest.mean(1).mean()
