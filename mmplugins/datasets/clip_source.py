"""What data sets of videos and of single images share, so that their entries become clips."""


class ClipSource:
    """Stands before mmengine's BaseDataset: entries hold the data set, of which ``MergeClips`` takes a second clip.

    The classes are what a visualizer needs; numbers of objects mean nothing beyond their video.
    """

    METAINFO = dict(
        classes=('background', *(f'object {number}' for number in range(1, 11))),
        palette=[  # the first colours of DAVIS's masks
            *([0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128], [128, 0, 128]),
            *([0, 128, 128], [128, 128, 128], [64, 0, 0], [192, 0, 0], [64, 128, 0]),
        ],
    )

    def prepare_data(self, idx: int):
        """Returns an entry that went through the pipeline, or None where the pipeline finds no clip."""
        info = self.get_data_info(idx)
        info['dataset'] = self
        return self.pipeline(info)
