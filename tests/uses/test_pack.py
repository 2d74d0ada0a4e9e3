"""Packed speech: what comes back, how large it is, and what is refused."""

import math

import numpy as np
import pytest
import torch
from conftest import FSQ, TINY, TINY_VOCODER, VOICES, seeded
from hypothesis import given
from hypothesis import strategies as st

from vcae.audio import concatenate
from vcae.inference.checkpoint import fingerprint
from vcae.inference.converter import Converter
from vcae.model.autoencoder import Autoencoder
from vcae.model.prosody import ProsodyPredictor, ProsodyPredictorConfig
from vcae.model.vocoder import Vocoder
from vcae.uses import pack
from vcae.uses.pack import Packed, Packer, PackError

SOURCE, OTHER = VOICES / "vcc2016-SF1-200001.flac", VOICES / "vcc2016-SM1-200001.flac"


def converter_of(config) -> Converter:
    networks = seeded(Autoencoder, config)
    sizes = ProsodyPredictorConfig(
        config.mel,
        fingerprint(networks.content, networks.bottleneck),
        dim=config.content_dim,
        width=8,
        hidden=8,
    )
    predictor = seeded(ProsodyPredictor, sizes)
    return Converter(networks, seeded(Vocoder, TINY_VOCODER), predictor=predictor)


@pytest.fixture(scope="module")
def packer() -> Packer:
    return Packer(converter_of(FSQ))


@pytest.fixture(scope="module")
def packed(packer) -> Packed:
    return packer.pack(SOURCE)


def test_a_file_holds_what_was_packed(packer, packed, tmp_path):
    path = tmp_path / "a.packed"
    packer.save(path, packed)
    found = packer.load(path)
    for name in ("units", "f0", "energy"):
        np.testing.assert_array_equal(getattr(found, name), getattr(packed, name))
    assert float(found.voice.embedding @ packed.voice.embedding) > 0.999
    assert found.voice.f0.mean == pytest.approx(packed.voice.f0.mean, abs=1e-4)
    assert found.voice.f0.std == pytest.approx(packed.voice.f0.std, abs=1e-3)
    assert path.stat().st_size == sum(map(len, packer.to_bytes(packed).values()))


def test_the_size_is_that_of_units_and_prosody(packer, packed):
    """FSQ has 15 values here, in 4 bits; F0 and energy have 9 bits for four units."""
    count = len(packed.units)
    sizes = {name: len(part) for name, part in packer.to_bytes(packed).items()}
    assert sizes["units"] == math.ceil(count / 2)
    groups = math.ceil(count / 4)
    assert sizes["prosody"] == math.ceil(5 * groups / 8) + math.ceil(4 * groups / 8)
    assert len(packer.to_bytes(packer.pack(SOURCE, with_voice=False))["voice"]) == 0


def test_it_speaks_the_units_in_its_own_voice_or_another(packer, packed):
    own, other = (concatenate(packer.unpack(packed, voice)) for voice in (None, OTHER))
    assert len(own) == len(other) == len(packed.units) * packer.converter.step
    assert np.isfinite(own).all() and not np.array_equal(own, other)


@given(st.floats(-0.75, 0.75), st.integers(1, 30))
def test_a_steady_value_survives_within_half_a_step(value, frames):
    levels = pack._levels(pack._mean(torch.full((frames,), value)), pack.F0_BITS, pack.F0_STEP)
    assert len(levels) == math.ceil(frames / pack.GROUP)
    found = pack._spread(pack._values(levels, pack.F0_BITS, pack.F0_STEP), frames)
    assert found.shape == (frames,)
    assert (found - value).abs().max() <= pack.F0_STEP / 2 + 1e-6


@given(st.integers(1, 12), st.data())
def test_numbers_survive_as_bits(bits, data):
    numbers = np.array(data.draw(st.lists(st.integers(0, 2**bits - 1), min_size=1, max_size=40)))
    stored = pack._to_bits(numbers, bits)
    assert len(stored) == math.ceil(bits * len(numbers) / 8)
    np.testing.assert_array_equal(pack._from_bits(stored, bits, len(numbers)), numbers)


@given(st.integers(0, 2000), st.binary(max_size=4))
def test_damaged_files_are_refused_in_one_line(packer, packed, tmp_path_factory, cut, behind):
    data = b"".join(packer.to_bytes(packed).values())
    path = tmp_path_factory.getbasetemp() / "damaged.packed"
    path.write_bytes(data[:cut] + behind)
    if data[:cut] + behind == data:
        return
    with pytest.raises(PackError, match=r"damaged\.packed: ") as error:
        packer.load(path)
    assert "\n" not in str(error.value)


def test_files_of_other_weights_are_refused(packer, packed, tmp_path):
    path = tmp_path / "a.packed"
    packer.save(path, packed)
    torch.manual_seed(1)
    other = Autoencoder(FSQ).eval()
    sizes = packer.converter.predictor.config
    sizes = ProsodyPredictorConfig(**vars(sizes) | {"content": fingerprint(other.content, other.bottleneck)})
    another = Packer(
        Converter(other, seeded(Vocoder, TINY_VOCODER), predictor=ProsodyPredictor(sizes).eval())
    )
    with pytest.raises(PackError, match="other weights"):
        another.load(path)


def test_a_continuous_model_cannot_pack():
    with pytest.raises(PackError, match="--model units"):
        Packer(converter_of(TINY))


def test_without_a_voice_one_must_be_given(packer):
    bare = packer.pack(SOURCE, with_voice=False)
    with pytest.raises(PackError, match="--voice"):
        packer.unpack(bare)
    assert len(concatenate(packer.unpack(bare, OTHER)))


def test_a_recording_is_encoded_as_units_at_once(packer):
    vc = packer.converter
    units, codes = vc.encode(SOURCE, units=True), vc.encode(SOURCE)
    assert torch.equal(units.content, vc.content(SOURCE).ids)
    torch.testing.assert_close(units.prosody, codes.prosody)
    with pytest.raises(ValueError, match="use the model units"):
        converter_of(TINY).encode(SOURCE, units=True)


def test_ids_are_spoken_without_prosody(packer, packed):
    vc = packer.converter
    ids = torch.from_numpy(packed.units[:40])
    audio = vc.decode(ids, None, packed.voice)
    assert len(audio.samples) == 40 * vc.step
    content = vc.autoencoder.bottleneck.decode(ids[None])[0]
    np.testing.assert_array_equal(vc.decode(content, None, packed.voice).samples, audio.samples)


@pytest.mark.parametrize(
    "ids", [torch.tensor([0, 15]), torch.tensor([-1]), torch.tensor([0.5]), torch.tensor([])]
)
def test_ids_out_of_range_are_refused(packer, packed, ids):
    with pytest.raises(ValueError, match="ids must be integers from 0 to 14"):
        packer.converter.decode(ids, None, packed.voice)


def test_a_predictor_of_other_weights_is_refused():
    networks = seeded(Autoencoder, FSQ)
    predictor = ProsodyPredictor(ProsodyPredictorConfig(FSQ.mel, "of others", dim=8, width=8, hidden=8))
    with pytest.raises(ValueError, match="another model"):
        Converter(networks, seeded(Vocoder, TINY_VOCODER), predictor=predictor)
