"""The mels of a batch that the encoders' and the autoencoder's stage see."""

from typing import NamedTuple

import torch
from torch import Tensor

from vcae.model.mel import LogMel, cosines
from vcae.training import augment
from vcae.training.config import DecoderStageConfig, EncodersStageConfig
from vcae.training.data import Batch
from vcae.training.recogniser import Recognised, Recogniser
from vcae.training.teachers.perceptual import WhisperRecogniser


class Views(NamedTuple):
    """Log-mels of a batch, (B, n_mels, T) or (B, n_mels, R), and what the recogniser finds in the source.

    target: the source. noisy: the source with noise. perturbed: that, warped, equalised and band-limited: the
    input of the content encoder. reference: the input of the speaker encoder. gain: (B, n_mels, 1), of
    another microphone. recognised: of target + gain.
    """

    target: Tensor
    noisy: Tensor
    perturbed: Tensor
    reference: Tensor
    gain: Tensor
    recognised: Recognised


@torch.no_grad()
def views_of(
    batch: Batch,
    log_mel: LogMel,
    recogniser: Recogniser | WhisperRecogniser,
    config: EncodersStageConfig | DecoderStageConfig,
    rng: torch.Generator,
) -> Views:
    """Perturb the sources and references of a batch."""
    mel, content, reference = log_mel.config, config.content, config.reference
    target = log_mel(batch.source)
    noisy = log_mel(augment.perturb_wav(batch.source, content, mel, rng))
    other = log_mel(augment.perturb_wav(batch.reference, reference, mel, rng))
    perturbed = augment.perturb_mel(noisy, content, mel, rng)
    # The recogniser sees source and decoded mel over the same random microphone, so that a decoder can
    # please it with phones only.
    gain = augment.random_gain(target, config.recogniser_eq_db, rng)
    recognised = recogniser(target + gain)
    return Views(target, noisy, perturbed, augment.perturb_mel(other, reference, mel, rng), gain, recognised)


def envelope(mel: Tensor) -> Tensor:
    """The spectral envelope as cepstral coefficients: (B, n_mels, T) -> (B, QUEFRENCIES, T)."""
    return cosines(mel.shape[1], augment.QUEFRENCIES, mel.device) @ mel
