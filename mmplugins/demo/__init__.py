"""``python -m mmplugins.demo CONFIG CHECKPOINT INPUT``: predicts images, folders and videos with any config.

``sources`` reads, ``outputs`` writes, ``images`` predicts image by image with the inferencers of ``mmplugins.apis``,
``tracking`` follows objects through a video from a first mask.
"""
