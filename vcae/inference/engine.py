"""The engine: all networks from input waveform to output waveform, block by block."""

from typing import cast

import torch
from torch import Tensor

from vcae.inference.traced import TensorFunction, Traced
from vcae.inference.voice import Voice
from vcae.model.autoencoder import Autoencoder
from vcae.model.decoder import Adapter, SpeakerConditioning
from vcae.model.mel import LogMel
from vcae.model.speaker import SpeakerCode
from vcae.model.state import Cache
from vcae.model.vocoder import Vocoder


class Engine:
    """LogMel, autoencoder and vocoder, run on blocks of whole steps.

    `analyse` and `synthesise` are separate so that the caller can move F0 between them.
    """

    def __init__(self, log_mel: LogMel, autoencoder: Autoencoder, vocoder: Vocoder) -> None:
        self.log_mel, self.autoencoder, self.vocoder = log_mel, autoencoder, vocoder
        self.sample_rate = log_mel.config.sample_rate
        self.alignment = autoencoder.alignment
        self.guidance_scale = autoencoder.config.guidance_scale
        """Scale of speaker guidance for these weights (`Voice.guided`)."""
        self.traced: tuple[Traced, Traced] | None = None

    @property
    def device(self) -> torch.device:
        """Device of the networks."""
        return self.log_mel.window.device

    def trace(self) -> None:
        """Trace the networks by TorchScript, which then runs blocks of a single step. Takes a second."""
        config = self.autoencoder.config
        networks = {"log_mel": self.log_mel, "autoencoder": self.autoencoder, "vocoder": self.vocoder}
        wav = torch.zeros(1, 1, self.alignment.step, device=self.device)
        embedding = torch.zeros(1, config.speaker_dim, device=self.device)
        tokens = torch.zeros(1, config.token_dim, config.tokens, device=self.device)
        with torch.no_grad():
            z, prosody = self.analyse(wav, {})
            conditioning = self.autoencoder.decoder.conditioning(SpeakerCode(embedding, tokens))
        self.traced = (
            Traced(TensorFunction(self._analyse, "wav", "z prosody", **networks), {"wav": wav}),
            Traced(
                TensorFunction(self._synthesise, "z prosody conditioning", "wav", **networks),
                {"z": z, "prosody": prosody, "conditioning": conditioning},
            ),
        )

    def analyse(self, wav: Tensor, cache: Cache) -> tuple[Tensor, Tensor]:
        """(1, 1, N) -> content code (1, D, T), T steps, and prosody (1, 3, stride * T)."""
        if self.traced and wav.shape[-1] == self.alignment.step:
            z, prosody = self.traced[0](wav, cache=cache)
            return z, prosody
        return self._analyse(wav, cache)

    def synthesise(
        self, z: Tensor, prosody: Tensor, conditioning: SpeakerConditioning, cache: Cache
    ) -> Tensor:
        """z (1, D, T), prosody (1, 3, stride * T) -> wav (1, 1, N), delayed by `alignment.delay` samples."""
        # The graph is traced without an adapter.
        if self.traced and z.shape[-1] == 1 and not conditioning.adapted:
            return self.traced[1](z, prosody, conditioning, cache=cache)[0]
        return self._synthesise(z, prosody, conditioning, cache)

    def speaker(self, wav: Tensor) -> SpeakerCode:
        """wav (1, 1, N) of a step or more -> speaker code."""
        return self.autoencoder.speaker.encode(self.log_mel(wav))

    def conditioning(self, voice: Voice) -> SpeakerConditioning:
        """The decoder's conditioning for a voice, of one example."""
        embedding, tokens = (x[None].to(self.device) for x in (voice.embedding, voice.tokens))
        conditioning = self.autoencoder.decoder.conditioning(SpeakerCode(embedding, tokens))
        if voice.adapter is None:
            return conditioning
        return conditioning.with_adapter(Adapter(*(x.to(self.device) for x in voice.adapter)))

    def _analyse(self, wav: Tensor, cache: Cache) -> tuple[Tensor, Tensor]:
        code, prosody = self.autoencoder.encode(self.log_mel(wav, cache), cache)
        return code.z, prosody

    def _synthesise(
        self, z: Tensor, prosody: Tensor, conditioning: SpeakerConditioning, cache: Cache
    ) -> Tensor:
        # Tracing passes the conditioning as a plain tuple.
        mel = self.autoencoder.decode(z, prosody, SpeakerConditioning(*conditioning), cache)
        return cast(Tensor, self.vocoder(mel, prosody, cache))
