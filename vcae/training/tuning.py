"""Fine-tuning of a voice to some minutes of one person's speech."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vcae.inference.checkpoint import load
from vcae.inference.voice import Voice
from vcae.model.autoencoder import Autoencoder
from vcae.model.decoder import Adapter
from vcae.progress import Track, untracked
from vcae.training.config import VoiceTuningConfig
from vcae.training.data import Bank, Sampler
from vcae.training.stages.voice import Judge, VoiceAdapter, VoiceAdapterConfig, VoiceSampler, VoiceStage
from vcae.training.teachers import CamPlusPlus
from vcae.training.teachers.front_ends import FrontEndConfig, find_or_fit
from vcae.training.teachers.labels import speaker_embeddings
from vcae.training.teachers.perceptual import SpeakerPerception
from vcae.training.trainer import Trainer


def tune(
    model: Autoencoder,
    voice: Voice,
    own: Bank,
    voices: Sequence[Voice],
    others: Bank,
    folder: Path,
    config: VoiceTuningConfig | None = None,
    teacher: CamPlusPlus | None = None,
    track: Track = untracked,
) -> Adapter:
    """The low-rank changes of the decoder that tune a voice to a person, as `VoiceStage` trains them.

    voice, own: the person's voice and speech. voices, others: those of other people, who are converted during
    the tuning; by the index of a speaker of the bank. folder: of checkpoint and curves; a run that was
    stopped continues. teacher: judges the conversions; default: the model's own speaker encoder does.

    The last tenth of the person's speech is held out, to stop when its loss no longer falls. Raises
    VcaeError.
    """
    c = config or VoiceTuningConfig()
    judge = judged_by(teacher, own, others, folder, c, track) if teacher else None
    begin, speech = round(0.9 * len(own.samples)), Sampler(others, c.sampler)
    stages = [
        VoiceStage(model, voice, voices, VoiceSampler(Sampler(part, c.sampler), speech), c.stage, judge)
        for part in (own.part(0, begin), own.part(begin, len(own.samples)))
    ]
    Trainer(stages[0], folder, c.training, stages[1]).run()
    tuned = load(folder / "voice.safetensors", VoiceAdapter, VoiceAdapterConfig)
    return Adapter.sum([Adapter(*(x.detach() for x in tuned()))], [c.kept])


def judged_by(
    teacher: CamPlusPlus, own: Bank, others: Bank, folder: Path, config: VoiceTuningConfig, track: Track
) -> Judge:
    """CAM++ as the judge; what it needs to hear mels is kept in the run's folder. Raises VcaeError."""
    teacher.to(own.samples.device)
    embeddings = speaker_embeddings(teacher, others, config=config.embeddings)[:, 0]
    person = speaker_embeddings(teacher, own, config=config.embeddings)[0, 0]
    folder.mkdir(parents=True, exist_ok=True)
    crops = Sampler(others, replace(config.sampler, seconds=1.28))
    path = folder / "front-end.safetensors"
    front_end = find_or_fit(path, FrontEndConfig("campplus"), crops, config.front_end, track)
    return Judge(SpeakerPerception(front_end, teacher), person, embeddings)
