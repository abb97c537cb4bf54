# The same for video object segmentation: validation and checkpoints have an exponential moving average of the weights
# (checkpoints also hold what a resumed run needs beside it).
_base_ = './default_runtime.py'
custom_hooks = [
    dict(type='mmplugins.IterSeedHook'),
    # over a tenth of 100,000 iterations, fewer at the start
    dict(type='EMAHook', ema_type='mmplugins.WarmupEMA', momentum=0.0001),
]
