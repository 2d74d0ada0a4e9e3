"""Everything that can be set for a training stage, as nested frozen dataclasses.

Each field is a flag of a recipe and a field of the files that training writes. Sizes of the networks that
are kept are in `vcae.model.config`; `RecogniserConfig` is beside its network.
"""

from dataclasses import dataclass, field, replace
from typing import Literal

Precision = Literal["32-true", "bf16-mixed"]
Tracker = Literal["wandb", "mlflow"]


@dataclass(frozen=True)
class TrainConfig:
    """Budget, optimiser, schedule and logging. Training ends at `steps` or `minutes`, whichever is first.

    `progress` is the fraction of that budget that is spent, 0 to 1.
    """

    steps: int | None = None
    """Number of steps; None: no limit."""
    minutes: float | None = None
    """Minutes of training in all, over all resumptions; None: no limit."""
    learning_rate: float = 1e-3
    """Peak learning rate of AdamW (Loshchilov and Hutter, 2019)."""
    discriminator_rate: float = 1.0
    """Learning rate of the discriminator, as a multiple of the generator's."""
    warm_up: int = 300
    """Steps over which the learning rate rises from zero, linearly."""
    decay: float = 0.75
    """Progress at which the learning rate starts to fall, linearly to zero; 1: never."""
    betas: tuple[float, float] = (0.8, 0.99)
    """Decay rates of AdamW's first and second moments."""
    weight_decay: float = 0.01
    """Weight decay of AdamW."""
    clip: float = 1.0
    """Largest norm of the gradient; larger gradients are scaled down to it."""
    ema: float = 0.999
    """Decay of the exponential moving average of the weights, a step; lower during the first steps."""
    seed: int = 0
    """Seed of batches, perturbations and noise."""
    checkpoint_minutes: float = 2.0
    """Minutes between checkpoints."""
    log_steps: int = 20
    """Steps between entries of the training curves."""
    validate_steps: int = 500
    """Steps between validations."""
    validate_batches: int = 4
    """Batches of a validation."""
    precision: Precision | None = None
    """None: bf16-mixed on a GPU, 32-true elsewhere. On a CPU with AMX, bf16-mixed is twice as fast."""
    non_finite: Literal["skip", "stop"] = "skip"
    """What to do about a step whose gradient is not finite: leave it out, or stop. Its batch is written to
    the folder either way. A hundred in a row stop the run."""
    patience: int | None = None
    """Validations without a lower loss after which training ends; the product is then that of the best one.
    None: training does not end early."""
    trackers: tuple[Tracker, ...] = ()
    """Experiment trackers beside TensorBoard, which need `pip install lightning` and the tracker."""
    record: bool = True
    """On a GPU, record a step as a CUDA graph and replay it, which avoids the launch of thousands of small
    kernels by the processor."""


BUDGET_AND_LOGGING = (
    *("steps", "minutes", "checkpoint_minutes", "log_steps", "validate_steps", "validate_batches"),
    *("non_finite", "patience", "trackers", "record"),
)
"""Fields of `TrainConfig` that a resumed run may change; the others determine the weights of each step."""


@dataclass(frozen=True)
class SamplerConfig:
    """How batches are cut from a bank."""

    batch_size: int = 128
    """Examples in a batch."""
    seconds: float = 2.5
    """Length of a source."""
    reference_seconds: float = 3.0
    """Length of a reference, other speech of the same speaker."""
    speeds: tuple[float, ...] = (1.0, 0.82, 0.87, 0.91, 0.96, 1.04, 1.09, 1.15, 1.22)
    """Playback speeds. Each makes a pseudo-speaker of each speaker; the first must be 1. Half of the examples
    of a batch keep speed 1, the others draw from all speeds."""
    gain_db: tuple[float, float] = (-12.0, 6.0)
    """Range of the gain of a source."""
    power: float = 0.5
    """A speaker is drawn in proportion to hours ** power."""
    at_most: tuple[tuple[str, float], ...] = (("speechocean762", 0.25), ("speech-to-intent", 0.1))
    """Prefixes of speaker names, each with the largest share of all draws for these speakers together. Keeps
    a few big corpora of short or accented clips from crowding out the others."""


@dataclass(frozen=True)
class Ranges:
    """Ranges of the random perturbations of speech; pairs are (low, high)."""

    pitch: tuple[float, float] = (0.7, 1.4)
    """Factor on the frequencies of the harmonics."""
    envelope: tuple[float, float] = (0.8, 1.25)
    """Factor on the frequencies of the spectral envelope."""
    eq_db: float = 10.0
    """Gain of a smooth equaliser curve, between -eq_db and eq_db."""
    snr_db: tuple[float, float] = (5.0, 40.0)
    """Signal-to-noise ratio of the examples with noise."""
    noise_slope: tuple[float, float] = (0.0, 2.0)
    """Noise has a power spectrum of 1 / f ** slope."""
    low_hz: tuple[float, float] = (0.0, 0.0)
    """Cut-off frequency of the high-pass."""
    high_hz: tuple[float, float] = (3000.0, 8000.0)
    """Cut-off frequency of the low-pass."""
    share: float = 0.3
    """Share of the examples with noise; also of those with a high-pass, and of those with a low-pass."""
    hum: float = 1 / 3
    """Share of the noisy examples whose noise is mains hum."""


CONTENT = Ranges()
"""Input of the content encoder: another pitch, another vocal tract, another microphone."""
REFERENCE = Ranges(pitch=(1.0, 1.0), envelope=(1.0, 1.0), eq_db=6.0, snr_db=(15.0, 40.0))
"""Input of the speaker encoder: the same voice over another microphone."""
PROSODY = Ranges(
    pitch=(1.0, 1.0), envelope=(1.0, 1.0), snr_db=(-3.0, 30.0), low_hz=(40.0, 500.0), share=0.75, hum=0.45
)
"""Input of the prosody encoder: the same voice, in more noise than the others, and over telephones."""


@dataclass(frozen=True)
class TelephoneConfig:
    """Telephones that speech is heard by; pairs are (low, high)."""

    high_hz: tuple[float, float] = (3300.0, 4000.0)
    """Upper end of the band."""
    low_hz: tuple[float, float] = (50.0, 300.0)
    """Lower end of the band."""
    share_low: float = 0.4
    """Share of the examples with a lower end."""
    share_companded: float = 0.5
    """Share of the examples with the mu-law of ITU-T G.711."""


@dataclass(frozen=True)
class MaskConfig:
    """Masks over bands and frames (SpecAugment, Park et al., 2019)."""

    bands: int = 2
    """Number of masks over bands."""
    band_share: float = 0.2
    """Largest width of a mask over bands, as a share of all bands."""
    frames_each: int = 100
    """There is one mask over frames for so many frames."""
    frames: int = 12
    """Largest width of a mask over frames."""


@dataclass(frozen=True)
class RoomConfig:
    """Ranges of simulated rooms; pairs are (low, high)."""

    share: float = 0.25
    """Share of the examples with reverberation."""
    decay: tuple[float, float] = (0.15, 0.8)
    """Reverberation time T60 in seconds."""
    ratio_db: tuple[float, float] = (-3.0, 12.0)
    """Energy of the direct sound over that of the reverberation."""
    delay: tuple[float, float] = (0.002, 0.022)
    """Seconds from the direct sound to the first reflection."""
    seconds: float = 0.6
    """Longest impulse response."""


# Labels by teachers


@dataclass(frozen=True)
class CodebookConfig:
    """Clusters and principal components of the features of a Whisper encoder."""

    layer: int | None = 4
    """Number of the encoder's blocks to run; None: all, and the final norm. Of Whisper base, the output of
    block 4 predicts phones best."""
    clusters: int = 512
    """Number of clusters."""
    components: int = 64
    """Number of principal components."""
    hours: float = 2.0
    """Hours of speech, drawn at random, from which both are computed."""
    frames: int = 150_000
    """Largest number of features that are drawn from this speech."""
    steps: int = 20
    """Steps of k-means."""
    seed: int = 0
    """Seed of the draws."""


@dataclass(frozen=True)
class PhoneClassifierConfig:
    """A classifier of phones from a teacher's features, and its training."""

    width: int = 512
    """Hidden channels."""
    context: int = 2
    """Frames on either side of the classified one that the classifier reads."""
    dropout: float = 0.2
    """Dropout after each hidden layer."""
    steps: int = 1200
    """Training steps."""
    batch_size: int = 1024
    """Frames in a batch."""
    learning_rate: float = 2e-3
    """Learning rate of AdamW during the first half; then it falls to zero, linearly."""
    weight_decay: float = 0.01
    """Weight decay of AdamW."""
    label_smoothing: float = 0.05
    """Label smoothing of the cross-entropy."""
    confidence: float = 0.5
    """Lowest probability of a pseudo-label."""
    seed: int = 0
    """Seed of weights, batches and dropout."""


@dataclass(frozen=True)
class SpeakerLabelsConfig:
    """Speech of which a speaker's embedding is the mean."""

    crops: int = 3
    """Number of crops of a speaker, spread over the recordings."""
    seconds: float = 3.5
    """Length of a crop."""
    seed: int = 0
    """Seed of the crops' positions."""


@dataclass(frozen=True)
class FrontEndFitConfig:
    """Training of a network that predicts a teacher's input from a log-mel."""

    content: Ranges = CONTENT
    """Noise in the speech; the other perturbations are not used."""
    steps: int = 1500
    """Training steps."""
    learning_rate: float = 2e-3
    """Learning rate of AdamW during the first half; then it falls to zero, linearly."""
    edge: int = 2
    """Frames at the end of a crop without a loss, since padding differs there."""
    seed: int = 0
    """Seed of batches and noise."""


# One voice


@dataclass(frozen=True)
class VoiceLossWeights:
    """Weights of the losses of the stage that fine-tunes a voice."""

    mel: float = 4.0
    """L1 of the standardised log-mel of own speech."""
    loudness: float = 8.0
    """Distance of its loudness."""
    envelope: float = 2.0
    """L1 of its spectral envelope."""
    target_speaker: float = 8.0
    """1 - cosine of converted speech to the person, by the model's own speaker encoder."""
    source_speaker: float = 5.0
    """How much nearer converted speech is to its source speaker than the person is."""


@dataclass(frozen=True)
class VoiceStageConfig:
    """Fine-tuning of one voice."""

    content: Ranges = CONTENT
    """Perturbation of own speech before the content encoder."""
    reference: Ranges = REFERENCE
    """Perturbation of converted speech before the speaker encoder."""
    rank: int = 8
    """Rank of the changes of the decoder."""
    loss_weights: VoiceLossWeights = field(default_factory=VoiceLossWeights)


@dataclass(frozen=True)
class VoiceTuningConfig:
    """All settings of the fine-tuning of one voice; the defaults are for one CPU core."""

    kept: float = 0.5
    """Share of the changes that the voice holds, 0 to 1. On the first person, half came as near as all, and
    sounded more natural."""
    embeddings: SpeakerLabelsConfig = field(default_factory=lambda: SpeakerLabelsConfig(crops=12))
    """Speech of which CAM++ embeds a speaker."""
    front_end: FrontEndFitConfig = field(default_factory=FrontEndFitConfig)
    """Training of the network that predicts the input of CAM++ from a mel."""
    stage: VoiceStageConfig = field(default_factory=VoiceStageConfig)
    sampler: SamplerConfig = field(
        default_factory=lambda: SamplerConfig(
            batch_size=4, seconds=1.92, reference_seconds=0.04, speeds=(1.0,), gain_db=(0.0, 0.0)
        )
    )
    training: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            steps=150,
            learning_rate=2e-3,
            warm_up=10,
            decay=0.5,
            weight_decay=0.0,
            ema=0.97,
            patience=3,
            validate_steps=25,
        )
    )


# The recogniser


@dataclass(frozen=True)
class RecogniserLossWeights:
    """Weights of the losses of the recogniser's stage."""

    phones: float = 1.0


@dataclass(frozen=True)
class RecogniserStageConfig:
    """Training of the phone recogniser."""

    content: Ranges = CONTENT
    """Perturbation of the input."""
    mask: MaskConfig = field(default_factory=MaskConfig)
    """Masks on the input."""
    label_smoothing: float = 0.1
    """Label smoothing of the cross-entropy; alignments are off by a frame now and then."""
    loss_weights: RecogniserLossWeights = field(default_factory=RecogniserLossWeights)


# The encoders


@dataclass(frozen=True)
class HeadsConfig:
    """Training-only networks on top of the encoders, see `vcae.training.heads`."""

    phone_width: int = 128
    """Hidden channels of the phone classifier."""
    margin: float = 0.2
    """Angular margin of the speaker classification, in radians."""
    margin_scale: float = 30.0
    """Factor on the cosines of the speaker classification."""
    classifier_width: int = 128
    """Hidden channels of the speaker classifier on the content code."""
    classifier_scale: float = 10.0
    """Factor on the cosines of the speaker classifier."""
    chance: float = 0.95
    """The encoder is rewarded up to this share of the speaker classifier's loss at chance."""


@dataclass(frozen=True)
class EncodersLossWeights:
    """Weights of the losses of the encoders' stage."""

    sketch: float = 1.0
    """L1 of the spectral envelope, predicted from the content code and the speaker embedding."""
    pitch: float = 0.1
    """Cross-entropy of F0."""
    voicing: float = 0.2
    """Cross-entropy of voicing."""
    margin: float = 0.1
    """Speaker classification of the embedding with an angular margin."""
    speaker_classifier: float = 1.0
    """Loss of the speaker classifier on the content code."""
    speaker_adversary: float = 2.0
    """Loss of the content encoder for what the speaker classifier finds."""
    phones: float = 0.5
    """Cross-entropy of labelled phones, predicted from the content code."""
    phone_distillation: float = 2.0
    """Divergence of those phones from the recogniser's."""
    bottleneck: float = 1.0
    """The bottleneck's own loss."""


@dataclass(frozen=True)
class EncodersStageConfig:
    """Training of the encoders without the decoder."""

    content: Ranges = CONTENT
    """Perturbation of the content encoder's input."""
    reference: Ranges = REFERENCE
    """Perturbation of the speaker encoder's input."""
    prosody: Ranges = PROSODY
    """Perturbation of the prosody encoder's input."""
    telephone: TelephoneConfig = field(
        default_factory=lambda: TelephoneConfig(low_hz=(200.0, 450.0), share_low=1.0)
    )
    """Telephones without the fundamental of most voices, for the prosody encoder."""
    telephoned: float = 0.35
    """Share of the examples that it hears by telephone."""
    recogniser_eq_db: float = REFERENCE.eq_db
    """Gain of the equaliser before the recogniser."""
    sketch_width: int = 192
    """Hidden channels of the network that predicts the spectral envelope."""
    loss_weights: EncodersLossWeights = field(default_factory=EncodersLossWeights)


# The content student

CONTENT_STUDENT = replace(CONTENT, snr_db=(0.0, 40.0), low_hz=(60.0, 400.0), share=0.4)
"""Input of the content student: as of the content encoder, with more noise, and over telephones."""


@dataclass(frozen=True)
class ContentLossWeights:
    """Weights of the losses of the content student's stage."""

    units: float = 1.0
    """Cross-entropy of the clusters of the teacher's features."""
    features: float = 1.0
    """Mean squared error of the principal components of the teacher's features."""
    phones: float = 1.0
    """Cross-entropy of phones."""
    code: float = 2.0
    """1 - cosine of the code to that of the guide, where there is one."""
    bottleneck: float = 1.0
    """The bottleneck's own loss."""
    speaker_classifier: float = 1.0
    """Loss of the speaker classifier on the content code."""
    speaker_adversary: float = 1.0
    """Loss of the content encoder for what the speaker classifier finds."""


@dataclass(frozen=True)
class ContentStageConfig:
    """Training of a content encoder by a teacher's features."""

    content: Ranges = CONTENT_STUDENT
    """Perturbation of the input."""
    unwarped: float = 0.4
    """Share of the examples whose pitch and envelope stay, so that the speaker classifier learns where
    the speaker is."""
    rooms: RoomConfig = field(default_factory=RoomConfig)
    """Reverberation of the input."""
    classifier_width: int = 128
    """Hidden channels of the speaker classifier on the content code."""
    classifier_scale: float = 10.0
    """Factor on the cosines of the speaker classifier."""
    chance: float = 0.95
    """The encoder is rewarded up to this share of the speaker classifier's loss at chance."""
    loss_weights: ContentLossWeights = field(default_factory=ContentLossWeights)


# The speaker student

SPEAKER_STUDENT = replace(REFERENCE, eq_db=8.0, snr_db=(5.0, 40.0), low_hz=(60.0, 400.0), share=0.4)
"""Input of the speaker student: the same voice over another microphone or a telephone, in noise."""


@dataclass(frozen=True)
class SpeakerSamplerConfig:
    """How batches of references are cut from a bank; pairs are (low, high)."""

    seconds: tuple[float, float] = (1.5, 6.0)
    """Length of a reference; the references of a batch are of one length."""
    batch_seconds: float = 120.0
    """Length of a batch in all."""
    speeds: tuple[float, ...] = (1.0,)
    """Playback speeds. Each makes a pseudo-speaker of each speaker; the first must be 1. Half of the
    references keep speed 1, the others draw from all speeds."""
    altered: float = 0.25
    """Share of the references with a speed and formants of their own."""
    altered_speed: tuple[float, float] = (0.8, 1.25)
    """Playback speed of these."""
    altered_formants: tuple[float, float] = (0.85, 1.18)
    """Factor on the frequencies of their spectral envelope."""
    gain_db: tuple[float, float] = (-12.0, 6.0)
    """Gain of a reference."""
    power: float = 0.2
    """A speaker is drawn in proportion to hours ** power."""
    at_most: tuple[tuple[str, float], ...] = (("speech-to-intent", 0.15),)
    """Prefixes of speaker names, each with the largest share of all draws for these speakers together."""


@dataclass(frozen=True)
class SpeakerLossWeights:
    """Weights of the losses of the speaker student's stage."""

    cosine: float = 4.0
    """1 - cosine of the embedding to the teacher's."""
    classification: float = 0.25
    """Cross-entropy of the speaker, by the cosines of the embedding to the teacher's of all speakers."""
    tokens: float = 1.0
    """1 - cosine of an embedding that is predicted from the timbre tokens to the teacher's."""


@dataclass(frozen=True)
class SpeakerStageConfig:
    """Training of a speaker encoder by the embeddings of a teacher."""

    reference: Ranges = SPEAKER_STUDENT
    """Perturbation of the input."""
    rooms: RoomConfig = field(default_factory=lambda: RoomConfig(share=0.2))
    """Reverberation of the input."""
    scale: float = 20.0
    """Factor on the cosines of the speaker classification."""
    loss_weights: SpeakerLossWeights = field(default_factory=SpeakerLossWeights)


# The decoder


@dataclass(frozen=True)
class DecoderMilestones:
    """Progress, 0 to 1, at which parts of the decoder's or the autoencoder's stage start."""

    discriminator: float = 0.375
    """The discriminator is trained."""
    adversarial: float = 0.375
    """The decoder is trained against it."""
    conversion: float = 0.375
    """Half of the batch is decoded with another speaker."""


@dataclass(frozen=True)
class DecoderLossWeights:
    """Weights of the losses of the decoder's stage."""

    mel: float = 1.5
    """L1 of the standardised mel."""
    loudness: float = 4.0
    """L1 of loudness."""
    envelope: float = 1.0
    """L1 of the spectral envelope."""
    decoded_pitch: float = 0.2
    """Cross-entropy of the F0 that the prosody encoder predicts from the decoded mel."""
    decoded_voicing: float = 0.4
    """The same for voicing."""
    recogniser_features: float = 4.0
    """L1 of the recogniser's features, of mels decoded with their own speaker."""
    adversarial: float = 0.1
    """Hinge loss of the decoder against the discriminator."""
    feature_matching: float = 0.5
    """L1 of the discriminator's features."""
    target_speaker: float = 2.0
    """1 - cosine of converted mels to their target speaker."""
    source_speaker: float = 2.0
    """What converted mels are nearer to their source speaker than the target speaker is."""
    speaker_drift: float = 2.0
    """1 - cosine of the speaker embedding to that of the encoder as training started."""
    code_drift: float = 2.0
    """1 - cosine of the content code to that of the clean source by the encoder as training started."""
    converted_features: float = 2.0
    """L1 of the recogniser's later features, of converted mels."""
    phone_kl: float = 2.0
    """Divergence of the recogniser's phones of converted mels from those of their sources."""
    discriminator: float = 1.0
    """Hinge loss of the discriminator."""


@dataclass(frozen=True)
class DecoderStageConfig:
    """Training of the decoder, and of encoders that are trained already."""

    content: Ranges = CONTENT
    """Perturbation of the content encoder's input."""
    reference: Ranges = REFERENCE
    """Perturbation of the speaker encoder's input."""
    recogniser_eq_db: float = REFERENCE.eq_db
    """Gain of the equaliser before the recogniser."""
    train_speaker: bool = False
    """Train the speaker encoder too. Its embedding stays close to what it was."""
    train_content: bool = False
    """Train the content encoder too. Its code stays close to what it was."""
    discriminator_channels: int = 32
    """Channels of the discriminator's first layer."""
    milestones: DecoderMilestones = field(default_factory=DecoderMilestones)
    loss_weights: DecoderLossWeights = field(default_factory=DecoderLossWeights)


# The autoencoder


@dataclass(frozen=True)
class AutoencoderLossWeights(DecoderLossWeights):
    """Weights of the losses of the autoencoder's stage."""

    margin: float = 0.1
    """Speaker classification of the embedding with an angular margin."""
    speaker_classifier: float = 1.0
    """Loss of the speaker classifier on the content code."""
    speaker_adversary: float = 2.0
    """Loss of the content encoder for what the speaker classifier finds."""
    phones: float = 0.5
    """Cross-entropy of labelled phones, predicted from the content code."""
    phone_distillation: float = 2.0
    """Divergence of those phones from the recogniser's."""
    bottleneck: float = 1.0
    """The bottleneck's own loss."""


@dataclass(frozen=True)
class AutoencoderStageConfig(DecoderStageConfig):
    """Training of encoders and decoder together."""

    speaker_ema_rate: float = 0.01
    """Share by which the averaged speaker encoders move towards the trained one in a step."""
    loss_weights: AutoencoderLossWeights = field(default_factory=AutoencoderLossWeights)


# The vocoder


@dataclass(frozen=True)
class VocoderMilestones:
    """Progress, 0 to 1, at which parts of the vocoder's stage start.

    The discriminator starts first: an untrained one is soon fooled for good.
    """

    discriminator: float = 0.3
    """The discriminator is trained."""
    adversarial: float = 0.35
    """The vocoder is trained against it."""


@dataclass(frozen=True)
class VocoderLossWeights:
    """Weights of the losses of the vocoder's stage."""

    stft: float = 1.0
    """Distance of STFT magnitudes."""
    mel: float = 20.0
    """L1 of log-mels of several resolutions."""
    adversarial: float = 1.0
    """Hinge loss of the vocoder against the discriminator."""
    feature_matching: float = 2.0
    """L1 of the discriminator's features."""
    discriminator: float = 1.0
    """Hinge loss of the discriminator."""


@dataclass(frozen=True)
class VocoderStageConfig:
    """Training of the vocoder."""

    stft_sizes: tuple[int, ...] = (256, 512, 1024)
    """Windows of the STFT loss, in samples."""
    mel_sizes: tuple[tuple[int, int], ...] = ((128, 20), (256, 40), (1024, 100), (2048, 160))
    """Window in samples and number of bands of each mel in the mel loss, beside the front end's own."""
    discriminator_sizes: tuple[int, ...] = (320, 640, 1280)
    """Windows of the discriminator's STFTs, in samples."""
    discriminator_channels: int = 32
    """Channels of the discriminator of STFTs."""
    discriminator_periods: tuple[int, ...] = (2, 3, 5, 7, 11)
    """Periods of the discriminator of folded waveforms, in samples; without any, there is none."""
    period_channels: int = 16
    """Channels of its first layer."""
    milestones: VocoderMilestones = field(default_factory=VocoderMilestones)
    loss_weights: VocoderLossWeights = field(default_factory=VocoderLossWeights)


# Prosody of codes without prosody


@dataclass(frozen=True)
class ProsodyPredictorLossWeights:
    """Weights of the losses of the prosody predictor's stage."""

    f0: float = 4.0
    """L1 of log-F0 over its mean, in voiced frames."""
    f0_mean: float = 0.1
    """Distance of the mean from `vcae.model.prosody.LOG_MIDDLE`."""
    voicing: float = 1.0
    """Cross-entropy of voicing."""
    energy: float = 0.5
    """L1 of log-energy."""


@dataclass(frozen=True)
class ProsodyPredictorStageConfig:
    """Training of the prosody predictor."""

    loss_weights: ProsodyPredictorLossWeights = field(default_factory=ProsodyPredictorLossWeights)


# Restoration


@dataclass(frozen=True)
class NoiseConfig:
    """Noise and rooms that speech is restored from; pairs are (low, high)."""

    snr_db: tuple[float, float] = (-5.0, 20.0)
    """Signal-to-noise ratio."""
    shares: tuple[float, float, float, float, float] = (0.7, 0.1, 0.05, 0.1, 0.05)
    """Shares of the examples with recorded noise, coloured noise, periodic noise, other voices, mains hum."""
    mixed: float = 0.4
    """Share of the recorded noises to which another one is added."""
    tilt: float = 1.0
    """Recorded noise is filtered by a power spectrum of 1 / f ** slope, slope from -tilt to tilt."""
    slope: tuple[float, float] = (0.0, 2.0)
    """Coloured and periodic noise have a power spectrum of 1 / f ** slope."""
    periodic_hz: tuple[float, float] = (25.0, 1000.0)
    """F0 of periodic noise."""
    drift: tuple[float, float] = (0.002, 0.1)
    """Standard deviation of the change of its log-F0 in 50 ms."""
    modulation_db: tuple[float, float] = (0.0, 12.0)
    """Standard deviation of the level of coloured and periodic noise over time."""
    modulation_points: tuple[int, int] = (2, 40)
    """Number of levels that are drawn for an example; between them the level changes steadily."""
    rooms: RoomConfig = field(default_factory=RoomConfig)
    """Reverberation before the noise."""


@dataclass(frozen=True)
class VoicelessConfig:
    """Whispered and monotone speech that voices are restored from; pairs are (low, high)."""

    whispered: float = 0.6
    """Share of whispered examples; the others are monotone."""
    weaker_db: tuple[float, float] = (0.0, 18.0)
    """How much weaker a whispered vowel is than a spoken one, against the consonants."""
    tilt_db: tuple[float, float] = (0.0, 6.0)
    """How much less a whispered vowel falls over an octave."""
    known: float = 0.5
    """Share of the examples whose mean F0 the network is told."""


@dataclass(frozen=True)
class RestorationMilestones:
    """Progress, 0 to 1, at which parts of the restoration's stage start."""

    discriminator: float = 0.45
    """The discriminator is trained."""
    adversarial: float = 0.55
    """The restorer is trained against it."""


@dataclass(frozen=True)
class RestorationLossWeights:
    """Weights of the losses of the restoration's stage."""

    magnitude: float = 8.0
    """Mean squared error of compressed magnitudes under the mask."""
    complex: float = 2.0
    """The same of compressed complex values."""
    heard: float = 1.0
    """L1 of the standardised mel of the denoised waveform."""
    words: float = 0.5
    """Squared error of its features in Whisper, as a share of their variance."""
    mel: float = 1.0
    """L1 of the standardised mel that is predicted."""
    loudness: float = 0.5
    """L1 of loudness."""
    pitch: float = 0.1
    """Cross-entropy of F0."""
    voicing: float = 0.2
    """Cross-entropy of voicing."""
    adversarial: float = 0.1
    """Hinge loss of the mels, and of that of the denoised waveform, against the discriminator."""
    feature_matching: float = 1.0
    """L1 of the discriminator's features."""
    discriminator: float = 1.0
    """Hinge loss of the discriminator."""


@dataclass(frozen=True)
class RestorationStageConfig:
    """Training of the restorer."""

    shares: tuple[float, float, float] = (0.75, 0.125, 0.125)
    """Shares of a batch for "denoise", "superres" and "revoice"."""
    noise: NoiseConfig = field(default_factory=NoiseConfig)
    telephone: TelephoneConfig = field(default_factory=TelephoneConfig)
    voiceless: VoicelessConfig = field(default_factory=VoicelessConfig)
    compression: float = 0.3
    """Exponent of the magnitudes in the losses of the mask."""
    removal: float = 1.0
    """Weight of magnitudes that are too low, as lost speech is, against those that are too high."""
    whisper_layer: int | None = 3
    """Number of blocks of Whisper whose output is compared; None: all, and the final norm."""
    discriminator_channels: int = 16
    """Channels of the discriminator's first layer."""
    milestones: RestorationMilestones = field(default_factory=RestorationMilestones)
    loss_weights: RestorationLossWeights = field(default_factory=RestorationLossWeights)


# Bandwidth extension


@dataclass(frozen=True)
class BandwidthLossWeights:
    """Weights of the losses of the bandwidth extender's stage."""

    energy: float = 1.0
    """L1 of the log-energies of the bands."""
    smooth: float = 0.5
    """The same of energies that are averaged over time, since the L1 of logarithms finds medians."""


@dataclass(frozen=True)
class BandwidthStageConfig:
    """Training of the bandwidth extender."""

    empty_db: float = 45.0
    """A band whose loudest windows are this far below those of the first band was not recorded."""
    floor: float = 1e-7
    """Energy that is added before the logarithm: differences far below it do not count, and a band that stays
    below it was not recorded."""
    smoothing: int = 16
    """Windows of the average."""
    loss_weights: BandwidthLossWeights = field(default_factory=BandwidthLossWeights)
