"""The recipes as a user runs them, and the README's own commands."""

import dataclasses
import json
import math
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch

import vcae
from vcae.audio import Audio, read
from vcae.errors import VcaeError
from vcae.evaluation.metrics.base import Score
from vcae.evaluation.metrics.cache import FeatureCache
from vcae.evaluation.trials import Trial
from vcae.files import load_tensors, save_tensors
from vcae.training.config import TrainConfig
from vcae.training.labels import f0_labels
from vcae.training.run import phases_of

ROOT = Path(__file__).parents[2]
STAGES = ("recogniser", "encoders", "autoencoder", "vocoder")
sys.path.insert(0, str(ROOT / "recipes"))


def run(*command: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}  # tests run beside one another
    return subprocess.run(
        list(map(str, command)), cwd=cwd, env=one_thread, capture_output=True, text=True, check=False
    )


def script(name: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a recipe's file as `run` does, but in this process, which has imported what takes seconds."""
    command, code = [f"recipes/{name}.py", *map(str, words)], 0
    with (
        pytest.MonkeyPatch.context() as patch,
        redirect_stdout(StringIO()) as out,
        redirect_stderr(StringIO()) as err,
    ):
        patch.setattr(sys, "argv", command)
        patch.chdir(ROOT)
        try:
            runpy.run_path(command[0], run_name="__main__")
        except SystemExit as end:
            code = end.code
    return subprocess.CompletedProcess(command, code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> Path:
    """A folder in which `recipes/bundled.py --tiny` has trained all stages."""
    out = tmp_path_factory.mktemp("toy")
    done = run(sys.executable, "recipes/bundled.py", "--tiny", "--out", out)
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.slow
def test_the_toy_recipe_makes_weights_that_convert(toy):
    for stage in STAGES:
        assert (toy / f"{stage}.ckpt").is_file()
    out = vcae.load(toy).reconstruct(ROOT / "demo/voices/vcc2016-SF1-200001.flac")
    assert out.duration > 3


@pytest.mark.slow
def test_what_is_done_is_not_done_again(toy):
    before = {p: p.stat().st_mtime_ns for p in toy.glob("*.bank")}
    done = script("bundled", "--tiny", "--out", toy, "--stages", "vocoder")
    assert done.returncode == 0, done.stderr
    assert "continuing from step 12" in done.stderr
    assert {p: p.stat().st_mtime_ns for p in toy.glob("*.bank")} == before


@pytest.mark.slow
def test_training_begins_with_the_weights_that_it_is_given(toy, tmp_path):
    import bundled

    for bank in toy.glob("*.bank"):
        shutil.copy(bank, tmp_path)
    none = TrainConfig(steps=0)
    stages = ("autoencoder", "vocoder")
    shutil.copy(toy / "recogniser.safetensors", tmp_path)
    written = {p: p.stat().st_mtime_ns for p in tmp_path.glob("*.bank")}
    bundled.main(
        bundled.Recipe(
            start=toy,
            out=tmp_path,
            stages=stages,
            runs=None,
            validation=bundled.ValidationConfig(speakers=1),
            autoencoder_training=none,
            vocoder_training=none,
        )
    )
    assert {p: p.stat().st_mtime_ns for p in tmp_path.glob("*.bank")} == written  # of the same data
    for name in ("autoencoder", "vocoder"):
        given, written = (load_tensors(folder / f"{name}.safetensors")[0] for folder in (toy, tmp_path))
        assert given.keys() == written.keys()
        assert all(torch.equal(given[key], written[key]) for key in given)


def test_a_product_names_the_phases_that_made_it(toy):
    phases = phases_of(toy / "autoencoder.safetensors")
    assert [(phase["stage"], phase["steps"]) for phase in phases] == [("encoders", 12), ("autoencoder", 12)]
    assert all(phase["hours"] > 0 and phase["settings"]["stage"] for phase in phases)
    assert [phase["stage"] for phase in phases[1]["teachers"]] == ["recogniser"]
    assert [phase["stage"] for phase in phases_of(toy / "vocoder.safetensors")] == ["vocoder"]
    assert json.loads((toy / "config.json").read_text()).keys() == set(STAGES)


def test_every_setting_is_a_flag_and_a_field_of_a_file(toy):
    """But for --out, --runs and --stages, which change no weights."""
    import bundled

    helped = script("bundled", "--help").stdout
    files = [load_tensors(toy / f"{name}.safetensors")[1]["notes"]["run_config"] for name in STAGES]
    parts = {"": "recipe", "_stage": "stage", "_sampler": "sampler", "_training": "training"}

    def leaves(config: object, name: str) -> list[str]:
        if not dataclasses.is_dataclass(config):
            return [name]
        fields = ((f.name, getattr(config, f.name)) for f in dataclasses.fields(config))
        return [leaf for key, value in fields for leaf in leaves(value, f"{name}.{key}".lstrip("."))]

    def written(leaf: str) -> bool:
        first, *rest = leaf.split(".")
        for config, stage in zip(files, STAGES, strict=True):
            part = next((parts[p] for p in parts if p and first == stage + p), None)
            places = [config[part]] if part else [config["recipe"].get(first)]
            places += [config["model"]] if first == stage else []
            places += [config["heads"]] if first == "heads" and "heads" in config else []
            for place in places:
                for key in rest:
                    place = place.get(key, missing) if isinstance(place, dict) else missing
                if place is not missing and (rest or first in config["recipe"]):
                    return True
        return False

    missing = object()
    found = leaves(bundled.Recipe(), "")
    flags = [leaf for leaf in found if not re.search(r"^(recogniser|autoencoder|vocoder)\.mel\.", leaf)]
    assert len(flags) > 150
    assert [f for f in flags if f"--{f.replace('_', '-')}" not in helped] == []
    assert {f for f in found if not written(f)} == {"out", "runs", "stages"}
    assert "autoencoder.mel" not in helped  # one mel for all


def test_a_toy_and_then_the_recipe_do_not_mix(toy, tmp_path):
    """Neither data nor weights of the toy are taken up by a recipe with other settings."""
    import bundled

    out = tmp_path / "out"
    shutil.copytree(toy, out)
    same = bundled.tiny(bundled.Recipe(out=out, stages=("recogniser",)))
    before = set(out.glob("*.bank"))
    with pytest.raises(VcaeError, match=r"recogniser.ckpt: .*model.width was 32, is 320"):
        bundled.main(dataclasses.replace(same, recogniser=bundled.RecogniserSizes()))
    with pytest.raises(VcaeError, match=r"recogniser.ckpt: .*data was "):
        bundled.main(dataclasses.replace(same, validation=bundled.ValidationConfig(speakers=2)))
    assert before < set(out.glob("*.bank"))  # a bank of its own
    assert bundled.Recipe().out is None  # and by default, a folder of its own


def test_a_changed_setting_is_refused_in_one_line(toy):
    path = toy / "vocoder.ckpt"
    change = ("--tiny", "--out", toy, "--stages", "vocoder", "--vocoder-stage.loss-weights.mel", "3")
    before = path.read_bytes()
    done = script("bundled", *change)
    assert done.returncode == 2
    assert done.stderr.startswith(
        f"{path}: of a run with other settings (stage.loss_weights.mel was 20.0, is 3.0)"
    )
    assert done.stderr.count("\n") == 1
    assert path.read_bytes() == before


def test_a_run_appends_a_row_and_reports_what_it_skips(tmp_path, capsys):
    import bundled

    corpora = tmp_path / "mine" / "vctk-sample"
    for k, voice in enumerate(sorted((ROOT / "demo/voices").glob("*.flac"))[:3]):
        path = corpora / "wav48" / f"p{k}" / f"p{k}_001.flac"
        path.parent.mkdir(parents=True)
        shutil.copy(voice, path)
    (corpora / "wav48" / "p1" / "p1_002.flac").write_bytes(b"nothing of the kind")
    recipe = bundled.tiny(bundled.Recipe(corpora=tmp_path / "mine", out=tmp_path / "out"))
    assert recipe.runs is None and bundled.Recipe().runs == ROOT / "recipes/runs.tsv"
    recipe = dataclasses.replace(recipe, runs=tmp_path / "runs.tsv", stages=("recogniser",))
    for _ in range(2):  # the second time there is nothing to do
        bundled.main(recipe)
    head, row = ([*line.split("\t")] for line in (tmp_path / "runs.tsv").read_text().splitlines())
    found = dict(zip(head, row, strict=True))
    assert (found["recipe"], found["stage"], found["steps"]) == ("bundled", "recogniser", "12")
    assert found["validation"].startswith("phones=") and found["out"] == str(tmp_path / "out")
    assert head == (ROOT / "recipes/runs.tsv").read_text().splitlines()[0].split("\t")
    errors = capsys.readouterr().err
    (skipped,) = [line for line in errors.splitlines() if line.startswith("skipped: ")]
    assert "p1_002.flac" in skipped


def test_too_few_speakers_are_reported_in_one_line(tmp_path):
    done = script("bundled", "--out", tmp_path, "--runs", "None")
    assert done.returncode == 2
    assert "--validation.speakers" in done.stderr and done.stderr.count("\n") == 1


def test_weights_to_begin_with_that_are_not_there_are_reported_in_one_line(tmp_path):
    done = script("bundled", "--tiny", "--out", tmp_path / "out", "--start", tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"{tmp_path / 'autoencoder.safetensors'}: ")
    assert done.stderr.count("\n") == 1


def test_an_autoencoder_without_a_teacher_is_refused_in_one_line(tmp_path):
    done = script("bundled", "--tiny", "--out", tmp_path, "--stages", "autoencoder")
    assert done.returncode == 2
    assert done.stderr.startswith(f"{tmp_path / 'recogniser.safetensors'}: ")
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.glob("*.bank"))  # before anything is read


@pytest.mark.slow
def test_the_curves_are_drawn(toy, tmp_path):
    done = script("curves", toy, "--out", tmp_path / "curves.png")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("recipe", ["evaluate_bundled", "evaluate_conditions"])
def test_an_evaluation_says_which_corpus_is_missing(recipe, tmp_path):
    done = script(recipe, "--corpora", tmp_path, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert done.stderr == f"{tmp_path / 'librispeech'}: no such folder\n"
    assert not (tmp_path / "out").exists()


def test_development_sentences_are_those_that_whisper_transcribes_correctly(monkeypatch, tmp_path):
    import evaluate_bundled

    class Constant:
        """Transcribes every recording alike."""

        name, version = "constant", "1"

        def extract(self, audio):
            return "hello"

        def compare(self, features, text):
            return {"WER": Score(float(features != text), 1)}

    clip = ROOT / "demo/voices/vcc2016-SF1-200001.flac"
    texts = ["hello", "good bye", None, "hello"]
    made = [Trial(str(k), clip, "a", "b", (clip,), text=text) for k, text in enumerate(texts)]
    monkeypatch.setattr(evaluate_bundled, "make_trials", lambda *_, **__: made)
    cache = FeatureCache(tmp_path / "features")

    def drawn(count):
        return [t.id for t in evaluate_bundled.trials_of("development", [], count, Constant(), cache)]

    assert drawn(3) == ["0", "2", "3"]
    assert drawn(2) == drawn(2)
    with pytest.raises(VcaeError, match=r"only 3 development trials can be made, not 4"):
        drawn(4)


def test_a_reference_gets_noise_of_the_level_asked_for():
    import evaluate_conditions

    clean = read(ROOT / "demo/voices/vcc2016-SF1-200001.flac", 16_000)
    noise = evaluate_conditions.noisy(clean, 10.0).samples - clean.samples
    assert abs(10 * math.log10((clean.samples**2).mean() / (noise**2).mean()) - 10) < 0.1


@pytest.mark.parametrize(
    ("how", "kept", "lost"), [("reverberant", (0, 8000), None), ("telephone", (400, 3200), (0, 200))]
)
def test_a_source_is_degraded_but_complete(how, kept, lost):
    import evaluate_conditions

    clean = read(ROOT / "demo/voices/vcc2016-SF1-200001.flac", 16_000)
    bad = getattr(evaluate_conditions, how)(clean)
    assert bad.samples.shape == clean.samples.shape and bad.samples.dtype == np.float32

    def level(audio, band):
        power = np.abs(np.fft.rfft(audio.samples)) ** 2
        hertz = np.arange(len(power)) * 16_000 / len(clean.samples)
        return 10 * math.log10(power[(hertz >= band[0]) & (hertz < band[1])].sum())

    gained = 3 if how == "reverberant" else 0  # dB: reverberation is about as loud as the direct sound
    assert level(bad, kept) == pytest.approx(level(clean, kept) + gained, abs=2.5)
    assert lost is None or level(bad, lost) < level(clean, lost) - 20


def test_an_emotion_moves_pitch_range_tempo_and_effort():
    import evaluate_conditions

    clean = read(ROOT / "demo/voices/vcc2016-SF1-200001.flac", 16_000)

    def measured(audio):
        f0 = f0_labels(audio.samples, 16_000, 160)
        power = np.abs(np.fft.rfft(audio.samples)) ** 2
        hertz = np.linspace(0, 8000, len(power))
        tilt = power[(hertz > 2000) & (hertz < 4000)].sum() / power[(hertz > 200) & (hertz < 600)].sum()
        return np.median(f0[f0 > 0]), np.log(f0[f0 > 0]).std(), 10 * math.log10(tilt)

    pitch, spread, tilt = measured(clean)
    for emotion in (evaluate_conditions.EXCITED, evaluate_conditions.SAD):
        made = evaluate_conditions.moved(clean, emotion)
        assert made.samples.dtype == np.float32
        assert made.duration == pytest.approx(clean.duration / emotion.tempo, rel=0.01)
        assert np.square(made.samples).mean() == pytest.approx(np.square(clean.samples).mean(), rel=0.01)
        moved_pitch, moved_spread, moved_tilt = measured(made)
        assert moved_pitch == pytest.approx(emotion.pitch * pitch, rel=0.1)
        assert (moved_spread > spread) == (emotion.range > 1)
        assert (moved_tilt > tilt) == (emotion.tilt_db > 0)


@pytest.mark.filterwarnings("ignore::vcae.audio.AudioWarning")  # clips of 3 s are short references
def test_an_emotion_does_not_hide_who_speaks():
    import evaluate_conditions

    vc = vcae.load()
    recordings = [read(path, 16_000) for path in sorted((ROOT / "demo/voices").glob("*.flac"))]
    voices = [Audio(recording.samples[: 5 * 16_000], 16_000) for recording in recordings]
    codes = np.stack([vc.embed(voice) for voice in voices])
    for k, voice in enumerate(voices):
        for emotion in (evaluate_conditions.EXCITED, evaluate_conditions.SAD):
            cosines = codes @ vc.embed(evaluate_conditions.moved(voice, emotion))
            assert cosines.argmax() == k and cosines[k] > 0.55


def test_less_reference_is_a_part_of_it():
    import evaluate_conditions

    given: list[float] = []

    class Listener:
        sample_rate = 16_000

        def voice(self, audios):
            given.append(sum(audio.duration for audio in audios))

        def convert(self, source, voice): ...

    recordings = tuple(sorted((ROOT / "demo/voices").glob("vcc2016-*.flac"))[:3])
    trial = Trial("t", recordings[0], "a", "b", recordings)
    for system in evaluate_conditions.references(Listener()).values():
        system(trial)
    assert given[:2] == [1.5, 3.0]
    assert given[1] < given[2] < given[3] == pytest.approx(given[4])


def test_phases_are_read_from_the_notes_of_weights(tmp_path):
    import evaluate_bundled

    phase = {"stage": "encoders", "steps": 12000, "minutes": 61.7, "hours": 884.2, "device": "A | B"}
    phases = [phase | {"data": {"utterances": 3}}, {"stage": "decoder", "data": "x" * 300}]
    for name, notes in (("a", {"steps": 5, "minutes": 2.0}), ("b", {"phases": phases})):
        save_tensors(tmp_path / f"{name}.safetensors", {"x": torch.zeros(1)}, {"notes": notes})
    head, *rows = evaluate_bundled.phase_table(sorted(tmp_path.glob("*.safetensors")))
    assert head == ["file", "stage", "steps", "minutes", "hours of audio", "device", "data"]
    assert rows[0] == ["a.safetensors", "not recorded", "5", "2", "", "", ""]
    assert rows[1] == ["b.safetensors", "encoders", "12,000", "62", "884", "A / B", "utterances 3"]
    assert rows[2][:2] == ["b.safetensors", "decoder"] and len(rows[2][-1]) == 80


def test_parts_of_the_card_are_replaced_between_their_markers(tmp_path):
    import evaluate_bundled

    card = tmp_path / "README.md"
    shutil.copy(evaluate_bundled.CARD, card)
    for name in ("results of studio", "results of live", "conditions of studio", "phases"):
        evaluate_bundled.write_part(name, f"new {name}", card)
        assert f"<!-- {name} -->\nnew {name}\n<!-- /{name} -->" in card.read_text()
    with pytest.raises(VcaeError, match="no place for probes"):
        evaluate_bundled.write_part("probes", "x", card)


def test_cells_of_the_card_are_short():
    import evaluate_bundled

    lines = evaluate_bundled.CARD.read_text(encoding="utf-8").splitlines()
    cells = [cell for line in lines if line.startswith("|") for cell in line.split("|")]
    assert cells and max(map(len, cells)) <= 200


def blocks() -> list[str]:
    """Every command line in the README, continued and commented lines made plain."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return [line for block in re.findall(r"```sh\n(.*?)```", text, re.S) for line in block.splitlines()]


@pytest.mark.slow
def test_the_first_command_converts(tmp_path):
    """What follows the installation, word by word; the output goes elsewhere."""
    (convert,) = [part.strip() for part in blocks()[0].split("&&") if "vcae convert" in part]
    words = [tmp_path / w if w == "converted.wav" else w for w in shlex.split(convert)]
    done = run(sys.executable, "-m", *words)
    assert done.returncode == 0, done.stderr
    source = read(ROOT / words[2])
    assert len(read(tmp_path / "converted.wav").samples) == len(source.samples)


def test_ci_runs_the_second_command_of_the_readme():
    test = next(line for line in blocks() if "pytest" in line)
    assert test == blocks()[1]
    assert "python -m pytest' README.md" in (ROOT / ".ci/run").read_text(encoding="utf-8")


def test_every_command_in_the_readme_exists():
    names = {shlex.split(line)[1] for line in blocks() if line.startswith("vcae ")}
    of_users = {"convert", "voice", "mix", "embed", "reconstruct", "info", "stream", "transcribe", "speak"}
    of_users |= {"anomaly", "denoise", "detect", "pack", "similarity"}
    assert names == of_users | {"trials", "evaluate", "probe", "export", "download", "doctor"}
    for path in re.findall(r"recipes/\w+\.py", (ROOT / "README.md").read_text(encoding="utf-8")):
        assert (ROOT / path).is_file()


def test_importing_the_package_costs_little_more_than_torch():
    """How much is timed by hand; here, that nothing heavy comes along."""
    code = (
        "import torch, sys; before = set(sys.modules); import vcae; "
        "new = {m.split('.')[0] for m in set(sys.modules) - before}; "
        "print(*sorted(new & {'librosa', 'gradio', 'scipy', 'matplotlib', 'av', 'lightning_fabric', "
        "'torchaudio', 'vector_quantize_pytorch', 'resemblyzer', 'pyworld', 'tyro'}))"
    )
    assert run(sys.executable, "-c", code).stdout.strip() == ""


def test_weights_fit_their_budget():
    sizes = [p.stat().st_size for p in (ROOT / "vcae/weights").glob("*.safetensors")]
    assert len(sizes) == 11
    assert max(sizes) < 15 * 2**20 and sum(sizes) < 52 * 2**20
    converter = vcae.load()
    for model in (converter.autoencoder, converter.vocoder):
        assert all(torch.isfinite(p).all() for p in model.parameters())
