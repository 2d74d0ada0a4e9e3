"""ONNX graphs: they do what the networks do, and the example beside them converts without torch."""

import json
import os
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY, TINY_VOCODER, VOICES, noise, seeded
from torch import Tensor, nn

import vcae
from vcae import Audio, audio, files
from vcae.cli import main as cli
from vcae.cli import options as cli_options
from vcae.inference.converter import Converter
from vcae.model.autoencoder import Autoencoder
from vcae.model.config import MelConfig
from vcae.model.layers import Stack
from vcae.model.speaker import SpeakerCode
from vcae.model.vocoder import Vocoder

pytestmark = pytest.mark.slow

REASON = "exporting needs the extra `export`"
onnxruntime = pytest.importorskip("onnxruntime", reason=REASON)
export = pytest.importorskip("vcae.export.onnx", reason=REASON)

RATE = 16_000
MEL = MelConfig()
CAUSAL = ["content", "prosody", "decoder", "vocoder"]
WHOLE = ["log_mel", "speaker", *CAUSAL]
CLIP, OTHER = VOICES / "vcc2016-SF1-200001.flac", VOICES / "librispeech-78-368-0031.flac"


@pytest.fixture(scope="module")
def converter() -> Converter:
    """With one block a stack, since tracing takes long; with a voice that is always there and moves."""
    autoencoder, vocoder = seeded(Autoencoder, TINY), seeded(Vocoder, TINY_VOCODER)
    for module in (*autoencoder.modules(), *vocoder.modules()):
        if isinstance(module, Stack):
            del module.blocks[:-1]
    with torch.no_grad():
        autoencoder.prosody.output.weight.mul_(30)
        autoencoder.prosody.output.bias[-1] = 100
        # Untrained, the highest harmonics are the loudest, in whose phase the rounding of F0 adds up.
        vocoder.filters.bias[: len(vocoder.filters.bias) // 4].sub_(torch.linspace(0, 8, 321))
        autoencoder.content.over_time.mean.normal_()
        autoencoder.content.over_time.variance.uniform_(0.5, 2)
    return Converter(autoencoder, vocoder)


@pytest.fixture(scope="module")
def exported(converter, tmp_path_factory) -> Path:
    """What `vcae export` writes, into a folder that is there and empty."""
    folder = tmp_path_factory.mktemp("graphs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli_options, "load", lambda path, device: converter)
        patch.setattr(sys, "argv", ["vcae", "export", "--onnx", str(folder)])
        cli.main()
    return folder


@pytest.fixture(scope="module")
def session(exported):
    """name -> the graph, loaded."""
    return lambda name: onnxruntime.InferenceSession(exported / f"{name}.onnx")


@pytest.fixture(scope="module")
def begin(exported):
    """name -> what the cache of a stream begins with."""
    return lambda name: dict(np.load(exported / f"{name}_stream.npz"))


def some(frames: int) -> dict[str, Tensor]:
    """Something for every input of every graph."""
    prosody = torch.stack(
        [5 + 0.3 * noise(1, frames), noise(1, frames, seed=1).sigmoid(), noise(1, frames)], 1
    )
    return {
        "windows": 0.1 * noise(1, frames, MEL.win_length),
        "mel": MEL.unstandardise(noise(1, MEL.n_mels, frames)),
        "z": noise(1, TINY.content_dim, frames // 2),
        "prosody": prosody,
        "phase": noise(1, frames, seed=2).sigmoid(),
        "embedding": nn.functional.normalize(noise(1, TINY.speaker_dim)),
        "tokens": noise(1, TINY.token_dim, TINY.tokens),
    }


@torch.no_grad()
def by_torch(converter: Converter, name: str, x: dict[str, Tensor]) -> list[np.ndarray]:
    """What the networks make of it."""
    auto = converter.autoencoder
    speaker = SpeakerCode(x["embedding"], x["tokens"])
    out = {
        "log_mel": lambda: converter.log_mel.from_windows(x["windows"]),
        "content": lambda: auto.bottleneck(auto.content(x["mel"])).z,
        "prosody": lambda: auto.prosody(x["mel"]),
        "speaker": lambda: auto.speaker.encode(x["mel"]),
        "decoder": lambda: auto.decode(x["z"], x["prosody"], speaker),
        "vocoder": lambda: converter.vocoder.windows(x["mel"], x["prosody"], x["phase"]),
    }[name]()
    return [y.numpy() for y in ([out] if isinstance(out, Tensor) else out)]


def fed(graph, x: dict[str, Tensor]) -> dict[str, np.ndarray]:
    return {i.name: x[i.name].numpy() for i in graph.get_inputs() if i.name in x}


@pytest.mark.parametrize("frames", [2, 40, 1_030])
@pytest.mark.parametrize("name", WHOLE)
def test_graphs_do_what_the_networks_do(converter, session, name, frames):
    graph, x = session(name), some(frames)
    made = graph.run(None, fed(graph, x))
    for ours, theirs in zip(made, by_torch(converter, name, x), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=3e-4)


@pytest.mark.parametrize("name", ["log_mel", "speaker"])
def test_a_reference_may_be_of_an_odd_number_of_frames(converter, session, name):
    graph, x = session(name), some(333)
    for ours, theirs in zip(graph.run(None, fed(graph, x)), by_torch(converter, name, x), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize("name", CAUSAL)
def test_two_frames_at_a_time_is_as_whole(converter, session, begin, name):
    graph, cache = session(f"{name}_stream"), begin(name)
    sizes = {i.name: i.shape for i in graph.get_inputs()}
    frames, parts = 300, []
    x = some(frames)
    for step in range(frames // 2):
        block = {}
        for key, whole in fed(graph, x).items():
            block[key] = whole
            for axis, size in enumerate(sizes[key]):
                if whole.shape[axis] != size:
                    block[key] = whole.take(range(step * size, (step + 1) * size), axis)
        out, *rest = graph.run(None, block | cache)
        cache = dict(zip(cache, rest, strict=True))
        parts.append(out)
    (wanted,) = by_torch(converter, name, x)
    np.testing.assert_allclose(np.concatenate(parts, axis=2), wanted, atol=3e-4)


def test_the_folder_holds_graphs_what_streams_begin_with_and_the_example(exported):
    graphs = [f"{name}.onnx" for name in (*WHOLE, *(f"{name}_stream" for name in CAUSAL))]
    begin = [f"{name}_stream.npz" for name in CAUSAL]
    assert sorted(p.name for p in exported.iterdir()) == sorted(
        ["manifest.json", "convert.py", *graphs, *begin]
    )
    assert not list(exported.parent.glob(".*.part"))


@pytest.mark.parametrize("name", CAUSAL)
def test_all_of_a_stream_is_fixed_and_told(session, begin, name):
    graph, cache = session(f"{name}_stream"), begin(name)
    inputs = {i.name: i.shape for i in graph.get_inputs()}
    outputs = {o.name: o.shape for o in graph.get_outputs()}
    assert list(inputs)[-len(cache) :] == list(cache)
    assert list(outputs)[-len(cache) :] == [key.replace("cache", "next", 1) for key in cache]
    for key, first in cache.items():
        assert inputs[key] == outputs[key.replace("cache", "next", 1)] == list(first.shape)
    assert all(isinstance(n, int) for shape in (inputs | outputs).values() for n in shape)


def test_the_manifest_tells_what_is_left_to_do_outside(converter, exported):
    about = json.loads((exported / "manifest.json").read_text())
    assert about == {
        "made_by": converter.made_by,
        "sample_rate": RATE,
        "win_length": 640,
        "hop_length": 160,
        "delay": converter.delay,
        "prosody_delay": converter.autoencoder.config.delay,
        "level": audio.LEVEL,
        "guidance_scale": TINY.guidance_scale,
    }


def test_graphs_tell_nothing_of_this_machine(exported):
    for path in exported.glob("*.onnx"):
        assert b".py" not in path.read_bytes()


class Half(nn.Module):
    """A content encoder that takes no time to trace."""

    stride = 2

    def forward(self, mel, cache=None):
        return MEL.standardise(mel)[:, : TINY.content_dim, ::2]


def test_codes_of_vector_quantisation_are_exported_too(tmp_path):
    auto = seeded(Autoencoder, replace(TINY, bottleneck={"kind": "vq", "size": 32}))
    auto.content = Half()
    converter = Converter(auto, seeded(Vocoder, TINY_VOCODER))
    network = export.networks(converter)["content"]
    with torch.no_grad():
        export._write(tmp_path / "vq.onnx", network, network.zeros(export.shapes(TINY, 100)))
    x = some(200)
    (z,) = onnxruntime.InferenceSession(tmp_path / "vq.onnx").run(None, {"mel": x["mel"].numpy()})
    np.testing.assert_allclose(z, by_torch(converter, "content", x)[0], atol=1e-5)


# The example


WITHOUT = """
import runpy, sys

class Without:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "vcae", "onnx", "scipy", "soundfile", "librosa"):
            raise ImportError(name)

sys.meta_path.insert(0, Without())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """WAV files at 16 kHz: a sentence, in two channels that differ, and 23 seconds with a long pause."""
    import soundfile

    folder = tmp_path_factory.mktemp("clips")
    samples, other = audio.read(CLIP, RATE).samples, audio.read(OTHER, RATE).samples
    Audio(samples, RATE).write(folder / "mono.wav")
    soundfile.write(folder / "stereo.wav", np.stack([samples, 0.2 * samples[::-1]], 1), RATE)
    pause = np.zeros(17 * RATE, np.float32)
    Audio(np.concatenate([other, pause, other])[: 23 * RATE], RATE).write(folder / "long.wav")
    return folder


def by_example(folder: Path, *words: object) -> None:
    """Run the example in a new interpreter that has numpy and onnxruntime alone."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", WITHOUT, folder / "convert.py", *words],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def check_example(folder, converter, source, reference, out, *options):
    by_example(folder, source, reference, out, *options)
    made, wanted = audio.read(out).samples, converter.convert(source, reference).samples
    assert np.abs(wanted).max() > 0.05
    np.testing.assert_allclose(made, wanted, atol=1e-3)


@pytest.mark.parametrize(
    ("source", "reference", "options"),
    [("mono", "long", []), ("stereo", "mono", ["--stream"])],
    ids=["whole", "stream"],
)
def test_the_example_converts_as_vcae_does(converter, exported, clips, tmp_path, source, reference, options):
    paths = [clips / f"{source}.wav", clips / f"{reference}.wav"]
    check_example(exported, converter, *paths, tmp_path / "out.wav", *options)


@pytest.mark.skipif(
    not os.environ.get("VCAE_EXPORT_TESTS"),
    reason="it needs minutes: VCAE_EXPORT_TESTS=1 python -m pytest -n 0 tests/export -k bundled",
)
def test_bundled_weights_convert_as_vcae_does(clips, tmp_path):
    """Twelve seconds, since what is wrong with F0 adds up in the phase."""
    converter, folder, source = vcae.load(), tmp_path / "graphs", tmp_path / "source.wav"
    export.export_onnx(converter, folder)
    samples = [audio.read(path, RATE).samples for path in sorted(VOICES.glob("*.flac"))]
    Audio(np.concatenate(samples)[: 12 * RATE], RATE).write(source)
    for options in ([], ["--stream"]):
        check_example(folder, converter, source, clips / "mono.wav", tmp_path / "out.wav", *options)


@pytest.fixture
def convert(exported, monkeypatch, capsys):
    """Run the example here: exit status and what it says."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["convert.py", *map(str, words)])
        code = 0
        try:
            runpy.run_path(str(exported / "convert.py"), run_name="__main__")
        except SystemExit as end:
            code = end.code
        return code, capsys.readouterr().err

    return run


def bad_recording(kind, path):
    if kind == "rate":
        Audio(0.1 * noise(8_000).numpy(), 8_000).write(path)
    elif kind == "silent":
        Audio(np.zeros(RATE, np.float32), RATE).write(path)
    elif kind == "short":
        Audio(0.1 * noise(320).numpy(), RATE).write(path)
    elif kind == "text":
        path.write_text("hello")
    elif kind == "empty":
        path.touch()


@pytest.mark.parametrize("kind", ["rate", "silent", "short", "text", "empty", "missing"])
def test_the_example_refuses_what_it_cannot_use(convert, clips, tmp_path, kind):
    bad, out = tmp_path / f"{kind}.wav", tmp_path / "out.wav"
    bad_recording(kind, bad)
    code, said = convert(clips / "mono.wav", bad, out)
    assert code == 2
    assert len(said.splitlines()) == 1
    assert said.startswith("convert.py: ")
    assert not out.exists()
    if kind == "rate":
        assert "8000" in said
        assert "16000" in said


def test_the_example_reads_what_there_is_of_a_file_cut_short(convert, clips, tmp_path):
    whole = (clips / "stereo.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(whole[: len(whole) // 2 + 1])
    code, said = convert(tmp_path / "cut.wav", clips / "mono.wav", tmp_path / "out.wav")
    assert (code, said) == (0, "")
    assert len(audio.read(tmp_path / "out.wav").samples) == (len(whole) // 2 + 1 - 44) // 4


# What is not written


@pytest.fixture
def vcae_export(converter, tmp_path, monkeypatch, capsys):
    """Run `vcae export` in an empty folder: exit status and the lines it says."""
    monkeypatch.chdir(tmp_path)

    def run(*words, load=lambda path, device: converter):
        monkeypatch.setattr(cli_options, "load", load)
        monkeypatch.setattr(sys, "argv", ["vcae", "export", *map(str, words)])
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code
        said = capsys.readouterr().err.splitlines()
        assert all(line.startswith("vcae: ") for line in said)
        return code, said

    return run


def kept(folder=Path()):
    return sorted(str(p) for p in folder.rglob("*"))


@pytest.mark.parametrize("name", ["full", "file", "file/graphs", "missing/graphs", "."])
def test_only_a_new_or_an_empty_folder_is_written(vcae_export, name):
    Path("full").mkdir()
    Path("full/notes.txt").write_text("mine")
    Path("file").write_text("mine")
    before = kept()
    code, said = vcae_export("--onnx", name)
    assert code == 2
    assert len(said) == 1
    assert said[0].startswith(f"vcae: {name}: ")
    assert kept() == before


@pytest.mark.parametrize("name", ["new", "empty", "."])
def test_files_are_moved_to_where_they_belong(tmp_path, monkeypatch, name):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty" if name == "." else tmp_path)
    with files.new_folder(Path(name)) as folder:
        (folder / "a.txt").write_text("a")
        assert not list(Path(name).glob("*.txt"))
    assert [p.name for p in Path(name).iterdir()] == ["a.txt"]


def test_unknown_weights_are_told(vcae_export):
    code, said = vcae_export("--onnx", "graphs", "--model", "nowhere", load=vcae.load)
    assert code == 2
    assert len(said) == 1
    assert "nowhere" in said[0]
    assert kept() == []


def test_without_the_extra_one_line_says_so(vcae_export, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("onnxscript.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    monkeypatch.delitem(sys.modules, "vcae.export")
    code, said = vcae_export("--onnx", "graphs")
    assert code == 2
    assert len(said) == 1
    assert "onnxscript" in said[0]
    assert "vcae[export]" in said[0]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=repr)
def test_nothing_stays_of_what_fails(vcae_export, monkeypatch, error):
    def fail(path, *_):
        path.touch()
        raise error

    monkeypatch.setattr(export, "_write", fail)
    code, said = vcae_export("--onnx", "graphs")
    assert code == (130 if isinstance(error, KeyboardInterrupt) else 2)
    assert len(said) == (0 if isinstance(error, KeyboardInterrupt) else 1)
    assert kept() == []
