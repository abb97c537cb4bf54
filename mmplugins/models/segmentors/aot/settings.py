"""What the configs of AOT may set of training and inference: ``train_cfg`` and ``test_cfg``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, TypeVar

_Read = TypeVar('_Read', bound='_Settings')


class SequencePass(NamedTuple):
    """Settings of a pass over sequences.

    Attributes:
        gap: Frames between those that join the long-term memory; None: only the reference does.
        own_masks: Whether the memory is fed with predicted masks instead of the annotated ones; then the identity
            bank is not trained.
        decode_reference: Whether the reference frame is decoded too.
        shuffle: Whether objects get identities at random.
    """

    gap: int | None = None
    own_masks: bool = False
    decode_reference: bool = True
    shuffle: bool = False


class _Settings:
    """Settings that are read from a config."""

    @classmethod
    def read(cls: type[_Read], config: Mapping[str, Any] | None, name: str) -> _Read:
        """Reads the settings of a config.

        Args:
            config: The keys that differ from the defaults; None: none does.
            name: What the config calls it, for the message.

        Raises:
            TypeError: There is no setting of that name.
            ValueError: A value is out of range.
        """
        known = [field.name for field in fields(cls)]
        unknown = sorted(set(config or ()) - set(known))
        if unknown:
            raise TypeError(f'{name} has no setting {", ".join(unknown)}; its settings are {", ".join(known)}')
        return cls(**(config or {}))


@dataclass
class TrainSettings(_Settings):
    """What ``train_cfg`` may hold.

    Attributes:
        gap: Frames between those that join the long-term memory; None: only the reference frame does.
        shuffle_identities: Whether objects get identities at random, sample by sample.
        own_masks_from: Iteration from which the memory is fed with predicted masks instead of the annotated ones; None:
            never.
        aux_loss_weight: Weight of the reference frame's losses at the start.
        aux_loss_steps: Iterations over which it falls linearly to 0.
    """

    gap: int | None = None
    shuffle_identities: bool = True
    own_masks_from: int | None = 50000
    aux_loss_weight: float = 1.0
    aux_loss_steps: int = 100000

    def aux_weight(self, step: int) -> float:
        """Weight of the reference frame's losses at an iteration."""
        return self.aux_loss_weight * max(0.0, 1 - step / self.aux_loss_steps) if self.aux_loss_steps else 0.0

    def sequence_pass(self, step: int) -> SequencePass:
        """Settings of the pass over the sequences of an iteration."""
        return SequencePass(
            self.gap,
            own_masks=self.own_masks_from is not None and step >= self.own_masks_from,
            decode_reference=self.aux_weight(step) > 0,
            shuffle=self.shuffle_identities,
        )


@dataclass
class TestSettings(_Settings):
    """What ``test_cfg`` may hold.

    Attributes:
        gap: Frames between those that join the long-term memory; None: only given masks do.
        max_stored: Most frames in the long-term memory beside those with given masks; None: no bound.
        flip: Whether each view is tracked mirrored too, and the probabilities are averaged.
        scales: Views of the frames: factors of the input's size, which is then rounded to one that the network takes;
            the probabilities of all views are averaged.
        fast: Whether each video is tracked by a copy of the network that is made for inference (batch norms fused; on
            a CPU channels-last, all products by oneDNN): the same results up to rounding.
        autocast: 'bfloat16' or 'float16': autocast to it, faster and less exact; None: as the caller has it.
    """

    __test__ = False  # pytest, do not collect it

    gap: int | None = None
    max_stored: int | None = None
    flip: bool = False
    scales: Sequence[float] = (1.0,)
    fast: bool = True
    autocast: str | None = None

    def __post_init__(self) -> None:
        if not self.scales or min(self.scales) <= 0:
            raise ValueError(f'scales are factors of the size, above 0, at least one; got {tuple(self.scales)}')
        if self.autocast not in (None, 'bfloat16', 'float16'):
            raise ValueError(f"autocast is 'bfloat16', 'float16' or None, got {self.autocast!r}")

    @property
    def augmented(self) -> bool:
        """Whether a video is tracked in more views than the one that comes in."""
        return self.flip or tuple(self.scales) != (1,)
