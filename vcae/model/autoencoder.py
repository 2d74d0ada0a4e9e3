"""The autoencoder, whose code consists of content, prosody and speaker."""

from torch import Tensor, nn

from vcae.model.alignment import Alignment
from vcae.model.bottleneck import Code, bottleneck
from vcae.model.config import AutoencoderConfig
from vcae.model.content import ContentEncoder
from vcae.model.decoder import Decoder, SpeakerConditioning
from vcae.model.prosody import ProsodyEncoder
from vcae.model.speaker import SpeakerCode, SpeakerEncoder
from vcae.model.state import Cache


class Autoencoder(nn.Module):
    """Content encoder, bottleneck, prosody encoder, speaker encoder and decoder.

    Decoding with the speaker code of another recording converts the voice.
    """

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        c = self.config = config
        self.alignment = Alignment(c.mel, c.delay, ContentEncoder.stride)
        self.content = ContentEncoder.of(c)
        self.bottleneck = bottleneck(dim=c.content_dim, **c.bottleneck)
        self.prosody = ProsodyEncoder(
            c.mel, c.delay, c.prosody_width, 2 * c.prosody_width, look_ahead=c.prosody_look_ahead
        )
        self.speaker = SpeakerEncoder(c.speaker)
        self.decoder = Decoder(
            c.mel,
            c.content_dim,
            c.decoder_width,
            c.expansion * c.decoder_width,
            c.speaker_dim,
            c.token_dim,
        )

    @property
    def bits_per_second(self) -> float:
        """Upper bound on the information in the content code."""
        return self.bottleneck.bits_per_frame * self.config.mel.frame_rate / self.content.stride

    def encode(self, mel: Tensor, cache: Cache | None = None) -> tuple[Code, Tensor]:
        """mel (B, n_mels, T), T even -> content code with z (B, D, T / 2), and prosody (B, 3, T)."""
        return self.bottleneck(self.content(mel, cache)), self.prosody(mel, cache)

    def decode(
        self,
        z: Tensor,
        prosody: Tensor,
        speaker: SpeakerCode | SpeakerConditioning,
        cache: Cache | None = None,
    ) -> Tensor:
        """z (B, D, T / 2), prosody (B, 3, T) and a speaker -> mel (B, n_mels, T), delayed by `config.delay`.

        For many blocks of one speaker, compute `decoder.conditioning` once and pass it as `speaker`.
        """
        conditioning = (
            speaker if isinstance(speaker, SpeakerConditioning) else self.decoder.conditioning(speaker)
        )
        return self.decoder(z, prosody, conditioning, cache)

    def forward(self, mel: Tensor, reference: Tensor, cache: Cache | None = None) -> Tensor:
        """mel (B, n_mels, T) in the voice of reference (B, n_mels, R) -> (B, n_mels, T), `config.delay` late.

        F0 does not change; `vcae.model.prosody.shift` moves it.
        """
        code, prosody = self.encode(mel, cache)
        return self.decode(code.z, prosody, self.speaker.encode(reference), cache)
