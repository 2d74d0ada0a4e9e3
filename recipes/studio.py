"""Train a model like the bundled `studio` with one command, from corpora to weights, by Whisper and CAM++.

    python recipes/studio.py --corpora ~/corpora --transcripts ~/corpora/transcripts \
        --whisper model.bin.part1 model.bin.part2 --campplus campplus.safetensors

It runs other recipes in one folder: `bundled.py` for the banks, the recogniser and the prosody and speaker
encoders, `content.py`, `decoder.py`, and beside them, as another process on the same GPU, `bundled.py` for
the vocoder. Their descriptions say where corpora and teachers come from. `vcae convert --model FOLDER` takes
the folder. Each part can be trained alone, with all its settings, by its own recipe in the same folder.

`--max-minutes` is for the whole, of which a fifth is reckoned for reading and labelling. The same command
continues a run that was stopped. `--tiny` trains a toy on the sample voices, to see that everything works.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import bundled
import content
import decoder
import tyro

from vcae.cli.console import in_one_line
from vcae.errors import VcaeError
from vcae.inference.checkpoint import (
    BUNDLED,
    SHARED_SPEAKER,
    load_autoencoder,
    read_header,
    save,
    save_without_speaker,
)
from vcae.training.config import (
    CodebookConfig,
    DecoderMilestones,
    FrontEndFitConfig,
    PhoneClassifierConfig,
    SpeakerLabelsConfig,
)
from vcae.training.student import ContentStudentConfig

SHARES = {"recogniser": 0.05, "encoders": 0.12, "content": 0.25, "decoder": 0.38}
"""Parts of the time; the vocoder, which trains beside them, has their sum."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All settings; the defaults are for an H100."""

    corpora: Path = bundled.SAMPLE_VOICES
    """Folder of unpacked corpora."""
    transcripts: Path | None = None
    """Folder of NAME.tsv with transcripts."""
    whisper: tuple[Path, ...]
    """Weights of Whisper base: a file, or its parts in order."""
    campplus: Path
    """Weights of CAM++."""
    out: Path | None = None
    """Folder of all that is written; default: runs/studio, or runs/studio-tiny with --tiny."""
    delay: int = 24
    """Look-ahead of the content encoder, in mel frames of 10 ms."""
    max_minutes: float = 28
    """Minutes for all of it."""
    bundle: bool = False
    """At the end, write the weights into the package as `studio`. Since the speaker encoder is another then,
    `live` must be trained again."""
    tiny: bool = False
    """Train a toy."""
    runs: Path | None = Path(__file__).parent / "runs.tsv"
    """Table to which each finished stage appends a row; None: no row. A toy appends none."""


def main(recipe: Recipe) -> None:
    """Train the parts one after the other, and the vocoder beside them. Raises VcaeError."""
    if recipe.tiny:
        recipe = replace(recipe, runs=None)
    out = recipe.out or Path("runs", "studio-tiny" if recipe.tiny else "studio")
    common = bundled.Recipe(
        corpora=recipe.corpora, transcripts=recipe.transcripts, out=out, tiny=recipe.tiny, runs=recipe.runs
    )
    bundled.main(replace(common, stages=()))  # the banks
    with vocoder_beside(recipe, out):
        training = {
            f"{name}_training": replace(getattr(common, f"{name}_training"), minutes=minutes(recipe, name))
            for name in ("recogniser", "encoders")
        }
        bundled.main(replace(common, stages=("recogniser", "encoders"), **training))
        taught = banks_and_teachers(recipe, out)
        content.main(content_recipe(recipe, out, taught))
        decoder.main(decoder_recipe(recipe, out, taught))
    shutil.copyfile(out / "decoder.safetensors", out / "autoencoder.safetensors")
    if recipe.bundle:
        model, notes = (
            load_autoencoder(out / "decoder.safetensors"),
            read_header(out / "decoder.safetensors").notes,
        )
        save(BUNDLED / SHARED_SPEAKER, model.speaker, notes)
        save_without_speaker(BUNDLED / "studio.safetensors", model, notes)
        shutil.copyfile(out / "vocoder.safetensors", BUNDLED / "vocoder.safetensors")


def minutes(recipe: Recipe, *names: str) -> float:
    """Minutes of training of these parts."""
    return recipe.max_minutes * sum(SHARES[name] for name in names)


@contextmanager
def vocoder_beside(recipe: Recipe, out: Path) -> Iterator[None]:
    """Train the vocoder in another process meanwhile. Raises VcaeError where that fails."""
    command: list[Any] = [sys.executable, bundled.__file__, "--out", out, "--corpora", recipe.corpora]
    command += ["--transcripts", recipe.transcripts, "--runs", recipe.runs, "--stages", "vocoder"]
    command += ["--vocoder-training.minutes", minutes(recipe, *SHARES), *["--tiny"] * recipe.tiny]
    log = out / "vocoder.log"
    with log.open("ab") as file, subprocess.Popen([str(x) for x in command], stderr=file) as process:  # noqa: S603
        try:
            yield
        except BaseException:
            process.terminate()  # it writes a checkpoint, and continues with the same command
            raise
        if process.wait():
            raise VcaeError(f"{log}: the vocoder's training has failed; the last lines say why")


def banks_and_teachers(recipe: Recipe, out: Path) -> dict[str, Any]:
    """What `content.py` and `decoder.py` share. Raises VcaeError where banks of other corpora are there."""
    found: dict[str, Any] = {"whisper": recipe.whisper, "campplus": recipe.campplus, "runs": recipe.runs}
    for name in ("train", "validation"):
        banks = list(out.glob(f"{name}-*.bank"))
        if len(banks) > 1:
            raise VcaeError(f"{out}: holds banks of other corpora too; name another folder (--out)")
        found[name] = banks[0]
    if recipe.tiny:
        found["codebook"] = CodebookConfig(clusters=16, components=8, hours=0.01, steps=2)
    return found


def content_recipe(recipe: Recipe, out: Path, taught: dict[str, Any]) -> content.Recipe:
    """The recipe of the content encoder; it starts from that of the stage of encoders."""
    student = ContentStudentConfig(delay=recipe.delay)
    whole = content.Recipe(**taught, out=out, start=out / "encoders.safetensors", student=student)
    training = replace(whole.training, minutes=minutes(recipe, "content"))
    return with_sizes(recipe, replace(whole, training=training), batch_size=128)


def decoder_recipe(recipe: Recipe, out: Path, taught: dict[str, Any]) -> decoder.Recipe:
    """The recipe of the decoder."""
    encoders, student = out / "encoders.safetensors", out / "content.safetensors"
    whole = decoder.Recipe(**taught, out=out, start=encoders, content=student)
    # The decoder starts from random weights: first it learns to reconstruct.
    milestones = DecoderMilestones(discriminator=0.2, adversarial=0.25, conversion=0.1)
    whole = replace(
        whole,
        stage=replace(whole.stage, train_content=True, milestones=milestones),
        training=replace(whole.training, minutes=minutes(recipe, "decoder")),
    )
    if recipe.tiny:
        stage = replace(whole.stage, discriminator_channels=4)
        whole = replace(whole, stage=stage, front_ends=FrontEndFitConfig(steps=2))
    return with_sizes(recipe, whole, batch_size=64)


def with_sizes(recipe: Recipe, whole: Any, batch_size: int) -> Any:
    """A recipe with the batches and the length of training of a GPU, or of a toy."""
    if not recipe.tiny:
        return replace(whole, sampler=replace(whole.sampler, batch_size=batch_size))
    return replace(
        whole,
        sampler=replace(whole.sampler, batch_size=4, seconds=1.0, reference_seconds=1.0),
        training=bundled.FEW,
        speakers=SpeakerLabelsConfig(crops=1, seconds=1.0),
        phones=PhoneClassifierConfig(width=8, steps=2),
    )


if __name__ == "__main__":
    with in_one_line():
        main(tyro.cli(Recipe, description=__doc__))
