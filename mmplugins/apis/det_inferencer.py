"""mmdet's inferencer, also for panoptic models where panopticapi is not installed (it is on no package index).

Deliberate difference from mmdet's: the prediction that was handed over stays as it is, where mmdet's replaces the
number of void in it by 0.
"""

from pathlib import Path

import mmengine
from mmdet.apis import DetInferencer as ToolboxDetInferencer
from mmdet.evaluation import INSTANCE_OFFSET
from mmdet.structures import DetDataSample
from PIL import Image

from mmplugins.functional.segment_images import segment_image

from .config_inferencer import ConfigInferencer


class DetInferencer(ConfigInferencer, ToolboxDetInferencer):
    """Predicts images in a program: ``DetInferencer(CONFIG, CHECKPOINT)(IMAGES, out_dir=FOLDER)``.

    Arguments, calls and results are mmdet's, but for what ``config_inferencer`` tells. In the results of panoptic
    models a pixel's segment is red + 256 green + 65536 blue: its class, plus 1000 times the number of the instance if
    it is of a thing; 0 is void.

    Args:
        *args: What mmdet's DetInferencer takes.
        **kwargs: Likewise.
    """

    def pred2dict(self, data_sample: DetDataSample, pred_out_dir: str = '') -> dict:
        """Makes a dict of a prediction, and writes it if asked for.

        Args:
            data_sample: ``pred_instances`` or ``pred_panoptic_seg``, or both.
            pred_out_dir: Folder, in whose ``preds`` files are written, ``IMAGE.json`` and for panoptic models
                ``IMAGE_panoptic_seg.png``; '': none.

        Returns:
            What mmdet's gives; of panoptic models ``panoptic_seg``, RGB, uint8, (H, W, 3), or the file's path as
            ``panoptic_seg_path``.
        """
        if 'pred_panoptic_seg' not in data_sample:
            return super().pred2dict(data_sample, pred_out_dir)
        segments = data_sample.pred_panoptic_seg.sem_seg[0].cpu().numpy()
        void = segments % INSTANCE_OFFSET == len(self.model.dataset_meta['classes'])
        picture = segment_image(segments * ~void)
        others = data_sample.clone()
        del others.pred_panoptic_seg
        result = super().pred2dict(others)
        if not pred_out_dir:
            return {**result, 'panoptic_seg': picture}
        folder = Path(pred_out_dir, 'preds')
        folder.mkdir(parents=True, exist_ok=True)
        if 'img_path' in data_sample:
            name = Path(data_sample.img_path).stem
        else:
            name = str(self.num_predicted_imgs)
            self.num_predicted_imgs += 1
        result['panoptic_seg_path'] = str(folder / f'{name}_panoptic_seg.png')
        Image.fromarray(picture).save(result['panoptic_seg_path'])
        mmengine.dump(result, str(folder / f'{name}.json'))
        return result
