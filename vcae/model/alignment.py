"""Time alignment: which frame describes which samples, for any look-ahead.

Everything is causal, so a network that looks ahead is a network whose output is late. One number, the
look-ahead L in mel frames (`AutoencoderConfig.delay`), says how late content and prosody encoder are; the
vocoder adds the rest of its window. With hop H and window W of the mel and the stride S of the code:

- mel frame t is computed from samples up to H (t + 1); its window is centred on sample H (t + 1) - W / 2;
- mel frame t, code frame t and label t *describe* the samples that start at H t, S H t and S H t;
- at look-ahead L, prosody frame t describes mel frame t - L, and code frame i describes code frame i - L / S;
- the decoded mel is late by L frames, the sound by L H + W - H samples.
"""

from dataclasses import dataclass

from torch import Tensor

from vcae.model.config import MelConfig


@dataclass(frozen=True)
class Alignment:
    """Delays of the parts of an autoencoder with this mel, look-ahead and stride of the code.

    Raises ValueError for a look-ahead that is negative or no multiple of the stride.
    """

    mel: MelConfig
    look_ahead: int
    """L, in mel frames."""
    stride: int
    """S, mel frames of a code frame."""

    def __post_init__(self) -> None:
        if self.look_ahead < 0 or self.look_ahead % self.stride:
            raise ValueError(
                f"a look-ahead (delay) of {self.look_ahead} mel frames does not fit; "
                f"give a multiple of the code's stride, {self.stride}, from 0 on"
            )

    @property
    def step(self) -> int:
        """Samples of a code frame: what is processed at a time at least."""
        return self.mel.hop_length * self.stride

    @property
    def code_delay(self) -> int:
        """Code frames by which the content code is late."""
        return self.look_ahead // self.stride

    @property
    def vocoder_delay(self) -> int:
        """Samples by which the vocoder's sound is later than its mel."""
        return self.mel.win_length - self.mel.hop_length

    @property
    def delay(self) -> int:
        """Samples by which the sound is late in all."""
        return self.look_ahead * self.mel.hop_length + self.vocoder_delay

    def steps(self, samples: int) -> int:
        """Code frames that describe a signal of so many samples."""
        return -(-samples // self.step)

    def padding(self, samples: int) -> int:
        """Samples of silence behind a signal, after which all of it has come out, in whole steps."""
        return self.delay + -(samples + self.delay) % self.step

    def describing(self, samples: int) -> tuple[slice, slice]:
        """Which code frames and which prosody frames describe a signal of so many samples.

        Both are counted from the first that the encoders give; the signal must be followed by `padding`.
        """
        start, count = self.code_delay, self.steps(samples)
        return (
            slice(start, start + count),
            slice(self.stride * start, self.stride * (start + count)),
        )


def label_delay(mel: MelConfig) -> int:
    """Mel frames by which a label at sample H t is earlier than the mel frame whose window is centred there.

    F0 labels are of this kind: label t is measured at sample H t, the centre of mel frame t + W / 2H - 1.
    """
    return mel.win_length // (2 * mel.hop_length) - 1


def in_step(late: Tensor, early: Tensor, delay: int) -> tuple[Tensor, Tensor]:
    """Two signals over the frames they share: (..., T), (..., T) -> 2 x (..., T - delay).

    Frame t of `late` describes frame t - delay of `early`. Raises ValueError where nothing is left.
    """
    frames = min(late.shape[-1] - delay, early.shape[-1])
    if delay < 0 or frames < 1:
        raise ValueError(f"{late.shape[-1]} frames are too few for a delay of {delay}")
    return late[..., delay : delay + frames], early[..., :frames]
