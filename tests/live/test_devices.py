"""Sound devices, with a fake in place of PortAudio, and files in place of devices."""

import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import TINY, TINY_VOCODER, VOICES, seeded

from vcae import AudioError, Converter, audio
from vcae.live.devices import Device, DeviceError, device_streams, devices, file_streams, find
from vcae.live.session import LiveSession
from vcae.model.autoencoder import Autoencoder
from vcae.model.vocoder import Vocoder

RATE = 16_000


class PortAudioError(Exception):
    pass


class FakeStream:
    """A stream without sound, whose callbacks a test calls."""

    latency = 0.01
    open: list["FakeStream"] = []  # noqa: RUF012 -- shared by all on purpose
    refused = ""

    def __init__(self, **options):
        self.options = options
        if self.refused:
            raise PortAudioError(self.refused)
        self.open.append(self)

    def start(self):
        pass

    def close(self):
        self.open.remove(self)


def device(name, inputs, outputs, rate=48_000.0):
    return {
        "name": name,
        "max_input_channels": inputs,
        "max_output_channels": outputs,
        "default_samplerate": rate,
    }


@pytest.fixture
def sd(monkeypatch):
    """A fake of the package sounddevice: one headset, a speaker, and a second microphone."""
    listed = [device("Headset", 1, 2), device("Speaker (USB)", 0, 2, 44_100.0), device("USB Mic", 2, 0)]
    fake = SimpleNamespace(
        query_devices=lambda: listed,
        default=SimpleNamespace(device=[2, 0]),
        InputStream=type("In", (FakeStream,), {}),
        OutputStream=type("Out", (FakeStream,), {}),
        PortAudioError=PortAudioError,
        listed=listed,
    )
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    FakeStream.open.clear()
    return fake


@pytest.fixture(scope="module")
def converter():
    return Converter(seeded(Autoencoder, TINY), seeded(Vocoder, TINY_VOCODER))


@pytest.fixture
def session(converter):
    return LiveSession(converter.stream(converter.voice(sorted(VOICES.glob("*.flac"))[-1])), RATE, RATE)


# Listing and finding


def test_devices_are_listed(sd):
    assert devices() == [
        Device(0, "Headset", 48_000, ("microphone", "loudspeaker"), ("loudspeaker",)),
        Device(1, "Speaker (USB)", 44_100, ("loudspeaker",), ()),
        Device(2, "USB Mic", 48_000, ("microphone",), ("microphone",)),
    ]


@pytest.mark.parametrize(
    ("kind", "name", "index"),
    [
        ("microphone", None, 2),
        ("loudspeaker", None, 0),
        ("microphone", "Headset", 0),
        ("loudspeaker", "usb", 1),
        ("microphone", "usb", 2),
        ("loudspeaker", "1", 1),
    ],
)
def test_a_device_is_found_by_name_part_or_number(sd, kind, name, index):
    assert find(kind, name).index == index


def test_the_exact_name_comes_first(sd):
    sd.listed.append(device("USB Mic 2", 1, 0))
    assert find("microphone", "USB Mic").index == 2


@pytest.mark.parametrize(
    ("kind", "name", "parts"),
    [
        ("microphone", "s", ["2 microphones", "0 'Headset'", "2 'USB Mic'"]),
        ("microphone", "Speaker", ["no microphone", "0 'Headset'", "2 'USB Mic'"]),
        ("loudspeaker", "7", ["no loudspeaker", "1 'Speaker (USB)'"]),
        ("loudspeaker", "", ["2 loudspeakers"]),
    ],
)
def test_a_name_that_fits_none_or_several_is_refused(sd, kind, name, parts):
    with pytest.raises(DeviceError) as refusal:
        find(kind, name)
    assert "\n" not in str(refusal.value)
    for part in parts:
        assert part in str(refusal.value)


@pytest.mark.parametrize("kind", ["microphone", "loudspeaker"])
def test_a_computer_without_devices_is_reported(sd, kind):
    sd.listed.clear()
    assert devices() == []
    with pytest.raises(DeviceError, match=f"no {kind} here"):
        find(kind)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(DeviceError, match=r"pip install 'vcae\[live\]'"):
        devices()


def test_without_portaudio_the_error_names_its_package(monkeypatch, tmp_path):
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    with pytest.raises(DeviceError, match="apt install libportaudio2"):
        devices()


# Device streams


def test_two_devices_capture_and_play_until_they_are_closed(sd, session):
    microphone, loudspeaker = find("microphone"), find("loudspeaker", "usb")
    with device_streams(session, microphone, loudspeaker, block=0.02):
        microphone_stream, loudspeaker_stream = FakeStream.open
        assert (
            microphone_stream.options["device"],
            microphone_stream.options["samplerate"],
            microphone_stream.options["blocksize"],
        ) == (
            2,
            48_000,
            960,
        )
        assert (loudspeaker_stream.options["device"], loudspeaker_stream.options["blocksize"]) == (1, 882)
        buffer = np.full((882, 1), 7, np.float32)
        captured = np.full((960, 1), 0.1, np.float32)
        microphone_stream.options["callback"](captured, 960, None, None)
        captured[:] = 9  # the device reuses the buffer for its next block
        loudspeaker_stream.options["callback"](buffer, 882, None, None)
        assert not buffer.any()
        assert session.convert(0)
        assert session.duration == pytest.approx(960 / session.sample_rate)
        assert "in -20 dB" in session.status_line()
        assert session.devices_delay == pytest.approx(0.02)
        assert session.underruns == 0
        loudspeaker_stream.options["callback"](buffer, 882, None, "output underflow")
        assert session.underruns == 1
    assert not FakeStream.open


def test_a_device_that_stops_ends_the_session(sd, session):
    with device_streams(session, find("microphone"), find("loudspeaker"), block=0.02):
        FakeStream.open[0].options["finished_callback"]()
        assert session.convert(10) is False


@pytest.mark.parametrize("stream", ["InputStream", "OutputStream"])
def test_a_device_that_cannot_be_opened_is_named(sd, session, monkeypatch, stream):
    monkeypatch.setattr(getattr(sd, stream), "refused", "Error opening:\nInvalid sample rate")
    name = {"InputStream": "USB Mic", "OutputStream": "Headset"}[stream]
    with (
        pytest.raises(DeviceError, match=f"'{name}' cannot be opened .*Invalid sample rate"),
        device_streams(session, find("microphone"), find("loudspeaker"), block=0.02),
    ):
        pass
    assert not FakeStream.open


# File streams


def convert_file(session, source, out, realtime=False):
    with file_streams(session, source, out, 0.02, realtime):
        while session.convert(0.1):
            pass


@pytest.mark.parametrize("realtime", [False, True])
def test_files_replace_devices(converter, session, speech, tmp_path, realtime):
    source = speech[0, 0, : RATE - 77].numpy()
    convert_file(session, np.split(source, [500, 9_000]), tmp_path / "out.wav", realtime)
    out = audio.read(tmp_path / "out.wav").samples
    assert len(source) < len(out)
    assert session.duration == len(source) / RATE
    if not realtime:  # where the result does not depend on timing
        assert session.underruns == session.dropped_seconds == 0
        expected = converter.stream(converter.voice(sorted(VOICES.glob("*.flac"))[-1])).feed(source)
        late = int(np.correlate(out, expected[1_000:4_000]).argmax()) - 1_000
        begin, end = 100 + late, late + len(expected)  # after the fade at the start
        np.testing.assert_allclose(out[begin:end], expected[100:], atol=1e-3)


def test_a_bad_source_leaves_no_file(session, tmp_path):
    def source():
        yield np.zeros(5_000, np.float32)
        raise AudioError("source.wav: breaks off; record it again")

    with pytest.raises(AudioError, match="breaks off"):
        convert_file(session, source(), tmp_path / "out.wav")
    assert list(tmp_path.iterdir()) == []


def test_an_error_while_converting_stops_the_thread(session, tmp_path):
    threads = threading.active_count()
    with (
        pytest.raises(RuntimeError, match="here"),
        file_streams(session, [np.zeros(RATE, np.float32)] * 100, tmp_path / "out.wav", 0.02, realtime=False),
    ):
        session.convert(0.1)
        raise RuntimeError("here")
    assert threading.active_count() == threads
