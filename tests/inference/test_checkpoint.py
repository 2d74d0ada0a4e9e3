"""Checkpoints."""

import dataclasses
import json

import pytest
import torch
from conftest import TINY, TINY_VOCODER, noise, seeded
from safetensors.torch import load_file, save_file

from vcae import files
from vcae.errors import VcaeError
from vcae.files import load_tensors, save_tensors
from vcae.inference.checkpoint import CheckpointError, load, load_autoencoder, load_vocoder, save
from vcae.model.autoencoder import Autoencoder
from vcae.model.config import VocoderConfig
from vcae.model.vocoder import Vocoder

KINDS = {
    "continuous": (Autoencoder, TINY, load_autoencoder),
    "vq": (Autoencoder, dataclasses.replace(TINY, bottleneck={"kind": "vq", "size": 32}), load_autoencoder),
    "fsq": (
        Autoencoder,
        dataclasses.replace(TINY, bottleneck={"kind": "fsq", "levels": [5, 3]}),
        load_autoencoder,
    ),
    "other mel": (
        Autoencoder,
        dataclasses.replace(TINY, mel=dataclasses.replace(TINY.mel, n_mels=40)),
        load_autoencoder,
    ),
    "vocoder": (Vocoder, TINY_VOCODER, load_vocoder),
}


@pytest.fixture(params=KINDS)
def saved(request, tmp_path):
    """A model, the file it was saved to, and the function that loads it."""
    model, config, load = KINDS[request.param]
    path = tmp_path / "model.safetensors"
    save(path, seeded(model, config), {"steps": 7})
    return seeded(model, config), path, load


def header(path):
    return load_tensors(path)[1]


def test_weights_are_stored_at_half_precision(saved):
    model, path, load = saved
    again = load(path)
    assert again.state_dict().keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        expected = value.half().float() if value.is_floating_point() else value
        assert torch.equal(again.state_dict()[name], expected), name


def test_files_are_half_the_size_and_models_full_precision(saved):
    _, path, load = saved
    assert all(t.dtype == torch.float16 for t in load_file(path).values() if t.is_floating_point())
    assert all(p.dtype == torch.float32 for p in load(path).parameters())


def test_config_and_notes_are_stored(saved):
    model, path, load = saved
    assert load(path).config == model.config
    assert header(path)["notes"] == {"steps": 7}
    assert not load(path).training


def test_saving_twice_is_saving_the_same(saved, tmp_path):
    _, path, load = saved
    again = tmp_path / "again.safetensors"
    save(again, load(path), {"steps": 7})
    one, other = load_file(path), load_file(again)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert header(path) == header(again)


def test_the_output_of_a_loaded_model_is_that_of_the_saved_one(tmp_path, vocoder):
    save(tmp_path / "v.safetensors", vocoder)
    again = load_vocoder(tmp_path / "v.safetensors")
    mel, prosody = noise(1, 80, 20), noise(1, 3, 20)
    prosody[:, 0] += 5
    prosody[:, 1] = prosody[:, 1].sigmoid()
    loud = vocoder(mel, prosody).abs().max()
    assert (again(mel, prosody) - vocoder(mel, prosody)).abs().max() < 0.01 * loud


def test_only_models_with_a_config_are_saved(tmp_path):
    with pytest.raises(TypeError, match="Linear"):
        save(tmp_path / "x.safetensors", torch.nn.Linear(2, 2))
    assert not any(tmp_path.iterdir())


def test_saving_replaces_an_older_file(tmp_path, vocoder):
    path = tmp_path / "v.safetensors"
    save(path, vocoder, {"steps": 1})
    save(path, vocoder, {"steps": 2})
    assert header(path)["notes"] == {"steps": 2}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("before", [None, b"the file before"], ids=["new file", "old file"])
def test_a_save_that_fails_leaves_nothing_half_written(tmp_path, monkeypatch, vocoder, before):
    path = tmp_path / "v.safetensors"
    if before:
        path.write_bytes(before)

    def full_disk(_, to, metadata):
        to.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(files, "save_file", full_disk)
    with pytest.raises(VcaeError, match=r"v\.safetensors: .*space"):
        save(path, vocoder)
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == ({path: before} if before else {})


def test_weights_may_be_read_by_whoever_may_read_a_plain_file(tmp_path, vocoder):
    (tmp_path / "plain").touch()
    save(tmp_path / "v.safetensors", vocoder)
    assert (tmp_path / "v.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_notes_that_are_not_json_write_nothing(tmp_path, vocoder):
    with pytest.raises(TypeError):
        save(tmp_path / "v.safetensors", vocoder, {"path": tmp_path})
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("folder", ["missing", "file"])
def test_a_folder_that_cannot_be_written_to_is_reported_in_one_line(tmp_path, vocoder, folder):
    (tmp_path / "file").touch()
    path = tmp_path / folder / "v.safetensors"
    with pytest.raises(VcaeError) as refusal:
        save(path, vocoder)
    assert str(refusal.value).startswith(f"{path}: ")
    assert "\n" not in str(refusal.value)


# Bad files


def text(path):
    path.write_text("these are no weights")


def empty(path):
    path.touch()


def folder(path):
    path.mkdir()


def pickled(path):
    torch.save(seeded(Vocoder, TINY_VOCODER).state_dict(), path)


def foreign(path):
    save_file({"weight": torch.zeros(3)}, path, {"format": "pt"})


def cut_short(path):
    save(path, seeded(Vocoder, TINY_VOCODER))
    path.write_bytes(path.read_bytes()[:-100])


def no_json(path):
    save_file({"weight": torch.zeros(3)}, path, {"vcae": "{"})


def json_but_no_object(path):
    save_file({"weight": torch.zeros(3)}, path, {"vcae": "[1]"})


def no_config(path):
    save_tensors(path, {"weight": torch.zeros(3)}, {"kind": "Vocoder"})


def tampered(**options):
    def make(path):
        vocoder = seeded(Vocoder, TINY_VOCODER)
        config = json.loads(json.dumps(dataclasses.asdict(vocoder.config))) | options
        save_tensors(path, vocoder.state_dict(), {"kind": "Vocoder", "config": config, "notes": {}})

    return make


BAD = {
    "missing": lambda path: None,
    "text": text,
    "empty": empty,
    "folder": folder,
    "pickle": pickled,
    "other safetensors": foreign,
    "cut short": cut_short,
    "no JSON": no_json,
    "JSON, no object": json_but_no_object,
    "no config": no_config,
    "autoencoder": lambda path: save(path, seeded(Autoencoder, TINY)),
    "other widths": tampered(width=24),
    "missing layers": tampered(blocks=3),
    "unknown option": tampered(colour="red"),
    "option of another type": tampered(width="wide"),
    "no mel": tampered(mel=None),
    "unusable mel": tampered(mel=dataclasses.asdict(dataclasses.replace(TINY_VOCODER.mel, hop_length=320))),
}


@pytest.mark.parametrize("make", BAD.values(), ids=BAD.keys())
def test_a_bad_file_is_refused_in_one_line_that_names_it(tmp_path, make):
    path = tmp_path / "bad.safetensors"
    make(path)
    with pytest.raises(CheckpointError) as refusal:
        load_vocoder(path)
    assert str(refusal.value).startswith(f"{path}: ")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "bottleneck", [{"kind": "magic"}, {}, {"kind": "vq", "size": "big"}, {"kind": "vq", "levels": 3}], ids=str
)
def test_a_bottleneck_of_another_version_is_refused_in_one_line(tmp_path, autoencoder, bottleneck):
    path = tmp_path / "bad.safetensors"
    config = dataclasses.asdict(autoencoder.config) | {"bottleneck": bottleneck}
    save_tensors(path, autoencoder.state_dict(), {"kind": "Autoencoder", "config": config, "notes": {}})
    with pytest.raises(CheckpointError) as refusal:
        load_autoencoder(path)
    assert str(refusal.value).startswith(f"{path}: ")
    assert "\n" not in str(refusal.value)


def test_a_vocoder_is_no_autoencoder(tmp_path, vocoder):
    save(tmp_path / "v.safetensors", vocoder)
    with pytest.raises(CheckpointError, match=r"v\.safetensors.*Vocoder.*Autoencoder"):
        load_autoencoder(tmp_path / "v.safetensors")


def test_nothing_is_unpickled(tmp_path):
    """A pickle that would create a file if it were loaded."""
    created = tmp_path / "created"

    class Evil:
        def __reduce__(self):
            return type(created).touch, (created,)

    path = tmp_path / "evil.safetensors"
    torch.save({"weight": Evil()}, path)
    with pytest.raises(CheckpointError):
        load_vocoder(path)
    assert not created.exists()


def test_another_default_dtype_is_told():
    torch.set_default_dtype(torch.float64)
    try:
        with pytest.raises(CheckpointError, match=r"torch's default is torch\.float64.*set_default_dtype"):
            load_vocoder()
    finally:
        torch.set_default_dtype(torch.float32)


def test_what_is_wrong_with_torch_is_not_blamed_on_the_file(tmp_path):
    path = tmp_path / "model.safetensors"
    save(path, seeded(Vocoder, TINY_VOCODER))

    class Broken(Vocoder):
        def __init__(self, config):
            raise VcaeError("torchaudio does not load with torch")

    Broken.__name__ = Vocoder.__name__
    with pytest.raises(VcaeError, match=r"^torchaudio does not load with torch$"):
        load(path, Broken, VocoderConfig)
