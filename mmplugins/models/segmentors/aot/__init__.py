"""AOT, semi-supervised video object segmentation: from the masks of the first frame to those of all others.

Its parts:

- ``encoder``: an image to features at strides 4, 8 and 16, and an embedding.
- ``identity``: masks to identity embeddings.
- ``attention``, ``lstt``: the transformer between them, whose blocks read and write memories.
- ``memory``: what is kept of past frames.
- ``mmplugins.models.layers.fpn_decoder``: embeddings to logits.
- ``network``: all of these; it keeps no state.
- ``settings``: what the configs may set of training and inference.
- ``engine``: the state of one video, any number of objects.
- ``augmentation``: several engines for mirrored and scaled views of a video.
- ``tracker``: an engine for objects under the numbers that they have in files.
- ``training``: losses of a batch of short sequences.
- ``segmentor``: the registered model, with mmengine's modes.
- ``inference``: a video tracked by it.
"""

from .data_preprocessor import VOSDataPreprocessor
from .encoder import DilatedMobileNetV2
from .engine import VideoEngine
from .inference import track_video
from .network import AOTNetwork
from .segmentor import AOT

__all__ = ['AOT', 'AOTNetwork', 'DilatedMobileNetV2', 'VOSDataPreprocessor', 'VideoEngine', 'track_video']
