"""Checks and logs of a module that must not wait for the device."""

from mmplugins.functional.device import DeferredReads


class DeferredChecks:
    """Mixin of modules that read numbers from the device at a later call; it stands before ``nn.Module``.

    A subclass hands its numbers to ``self._reads``. What is still under way when the module goes to evaluation is read
    then, so that an error found in the last training steps is raised before the validation and not lost.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._reads = DeferredReads()

    def train(self, mode: bool = True) -> 'DeferredChecks':
        """Sets the mode; before an evaluation, raises what checks on the device have found so far.

        Args:
            mode: Whether to train.

        Raises:
            Exception: What a reader raises, such as the ValueError of a check.
        """
        if not mode:
            self._reads.flush()
        return super().train(mode)
