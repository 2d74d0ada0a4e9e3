"""Time alignment: which frame describes which samples, for any look-ahead.

All layers are causal, so look-ahead is output delay. One number, the look-ahead L in mel frames
(`AutoencoderConfig.delay`), is the delay of the content encoder and of the prosody encoder; the vocoder adds
the rest of its window. With hop_length H and win_length W of the mel and the stride S of the content code:

- mel frame t is computed from samples up to H (t + 1); its window is centred on sample H (t + 1) - W / 2;
- mel frame t *describes* the samples from H t on; code frame t and phone label t those from S H t on;
- at look-ahead L, prosody frame t describes mel frame t - L, and code frame i describes code frame i - L / S;
- the decoded mel is delayed by L frames, the waveform by L H + W - H samples.
"""

from dataclasses import dataclass

from torch import Tensor

from vcae.model.config import MelConfig


@dataclass(frozen=True)
class Alignment:
    """Delays of the parts of an autoencoder, from its mel, its look-ahead and the stride of its code.

    Raises ValueError for a look-ahead that is negative or not a multiple of the stride.
    """

    mel: MelConfig
    look_ahead: int
    """L, in mel frames."""
    stride: int
    """S, mel frames per code frame."""

    def __post_init__(self) -> None:
        if self.look_ahead < 0 or self.look_ahead % self.stride:
            raise ValueError(
                f"a look-ahead (delay) of {self.look_ahead} mel frames does not fit; "
                f"give a multiple of the code's stride, {self.stride}, from 0 on"
            )

    @property
    def step(self) -> int:
        """Samples per code frame: the shortest block that can be processed."""
        return self.mel.hop_length * self.stride

    @property
    def code_delay(self) -> int:
        """Delay of the content code, in code frames."""
        return self.look_ahead // self.stride

    @property
    def vocoder_delay(self) -> int:
        """Delay of the vocoder's output behind its mel, in samples."""
        return self.mel.win_length - self.mel.hop_length

    @property
    def delay(self) -> int:
        """Total delay of the output waveform, in samples."""
        return self.look_ahead * self.mel.hop_length + self.vocoder_delay

    def steps(self, samples: int) -> int:
        """Number of code frames that describe a signal of this many samples."""
        return -(-samples // self.step)

    def padding(self, samples: int) -> int:
        """Zeros to append to a signal, so that its output is complete and the total is whole steps."""
        return self.delay + -(samples + self.delay) % self.step

    def describing(self, samples: int) -> tuple[slice, slice]:
        """Slices of the code frames and of the prosody frames that describe a signal of this many samples.

        Both count from the encoders' first output frame; the signal must be followed by `padding`.
        """
        start, count = self.code_delay, self.steps(samples)
        return (
            slice(start, start + count),
            slice(self.stride * start, self.stride * (start + count)),
        )


def label_delay(mel: MelConfig) -> int:
    """Mel frames from F0 label t to the mel frame whose window has the same centre.

    F0 label t is measured at sample H t, which is the centre of mel frame t + W / 2H - 1.
    """
    return mel.win_length // (2 * mel.hop_length) - 1


def in_step(late: Tensor, early: Tensor, delay: int) -> tuple[Tensor, Tensor]:
    """Align a delayed signal with an undelayed one: (..., T), (..., T) -> 2 x (..., T - delay).

    Frame t of `late` describes frame t - delay of `early`. Raises ValueError for `delay` frames or fewer.
    """
    frames = min(late.shape[-1] - delay, early.shape[-1])
    if delay < 0 or frames < 1:
        raise ValueError(f"{late.shape[-1]} frames are too few for a delay of {delay}")
    return late[..., delay : delay + frames], early[..., :frames]
