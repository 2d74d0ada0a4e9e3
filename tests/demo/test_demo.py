"""The browser demo: its page in a real browser, and the functions that programs call."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import wave
import zipfile
from pathlib import Path

import httpx
import numpy as np
import pytest
from conftest import VOICES

import vcae
from vcae import Audio, Voice, audio
from vcae.cli import main as cli
from vcae.uses import restore

pytestmark = pytest.mark.slow

pytest.importorskip("gradio")
playwright = pytest.importorskip("playwright.sync_api")
websockets = pytest.importorskip("websockets.sync.client")
expect = playwright.expect

RATE = 16_000
SOURCE, MAN, OTHER_MAN = (
    VOICES / name
    for name in ("vcc2016-SF1-200001.flac", "librispeech-78-368-0031.flac", "librispeech-26-495-0007.flac")
)
PATIENCE = 120_000  # ms; a busy machine is no defect
expect.set_options(timeout=PATIENCE)
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
QUIET += ["--disable-background-networking", "--disable-component-update"]
# Tells of whatever the server reaches for outside this machine.
PROGRAM = """
import sys
HERE = ("127.0.0.1", "localhost", "::1", "0.0.0.0", None)
def watch(event, args):
    host = {"socket.connect": lambda: args[1][0] if isinstance(args[1], tuple) else None,
            "socket.getaddrinfo": lambda: args[0]}.get(event, lambda: None)()
    if host not in HERE:
        print("REACHES OUT:", event, args, file=sys.stderr, flush=True)
sys.addaudithook(watch)
from vcae.cli.main import main
main(["demo", *sys.argv[1:]])
"""


class Server:
    """`vcae demo` in a process of its own."""

    def __init__(self, folder, *options, port=None):
        self.folder, self.log = folder, folder / "log.txt"
        if port is None:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
        self.port, self.url = port, f"http://127.0.0.1:{port}"
        command = [sys.executable, "-c", PROGRAM, "--port", str(port), *options]
        here = Path(__file__).parents[2]
        environment = {**os.environ, "PYTHONPATH": str(here), "TMPDIR": str(folder), "OMP_NUM_THREADS": "1"}
        environment["HTTP_PROXY"] = environment["http_proxy"] = "http://127.0.0.1:9"  # does not answer
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                command, env=environment, cwd=folder, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )

    def wait(self):
        deadline = time.monotonic() + 2 * PATIENCE / 1000
        while "Open http" not in self.log.read_text():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, "the server does not come up"
            time.sleep(0.2)

    def kept(self):
        """What lies in the temporary folder."""
        return list(self.folder.glob("vcae-demo-*"))

    def stop(self):
        """Ends as a user or a system would end it; gives the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=PATIENCE / 1000)


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Starts servers, and stops them in the end."""
    servers = []

    def start(*options, port=None):
        servers.append(Server(tmp_path_factory.mktemp("server"), *options, port=port))
        servers[-1].wait()
        return servers[-1]

    yield start
    for server in servers:
        if server.process.poll() is None:
            server.stop()


@pytest.fixture(scope="module")
def server(start):
    return start()


@pytest.fixture(scope="module")
def vc():
    return vcae.load()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """What opens pages: Chromium, its microphone playing a sentence again and again."""
    if CHROMIUM is None:
        reason = "no Chromium here: apt-get install chromium"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    spoken = tmp_path_factory.mktemp("microphone") / "spoken.wav"
    audio.Audio(audio.read(SOURCE, 48_000).samples, 48_000).write(spoken)
    fake = ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
    fake += [f"--use-file-for-fake-audio-capture={spoken}"]
    with playwright.sync_playwright() as p:
        chromium = p.chromium.launch(executable_path=CHROMIUM, args=[*QUIET, *fake])
        yield chromium
        chromium.close()


class User:
    """Someone with a browser of their own, which has opened the page and keeps what it is given."""

    def __init__(self, browser, url, size=(1280, 900), scheme="light", locale="en-US"):
        viewport = dict(zip(("width", "height"), size, strict=True))
        self.context = browser.new_context(viewport=viewport, color_scheme=scheme, locale=locale)
        self.context.set_default_timeout(PATIENCE)
        self.url, self.elsewhere, self.errors = url, [], []
        self.page = self.context.new_page()
        self.page.on("request", lambda r: self.note(r.url))
        self.page.on("pageerror", lambda e: self.errors.append(str(e)))
        self.open()

    def open(self):
        """Open the page, or open it again."""
        self.page.goto(self.url)
        self.convert = self.page.locator(".go button.primary").first
        self.convert.wait_for()
        self.status = self.page.locator(".prose.status:visible").last
        self.player = self.page.locator(".player:visible")
        self.page.wait_for_function("demo.ready")

    def note(self, address):
        if not address.startswith((self.url, "data:", "blob:")):
            self.elsewhere.append(address)

    def open_tab(self, name):
        tab = self.page.get_by_role("tab", name=name)
        tab.click()
        expect(tab).to_have_attribute("aria-selected", "true")

    def drop(self, file):
        """Put a recording in the place of the one that is there; the page takes it or tells why not."""
        clear = self.page.get_by_role("button", name="Clear").first
        warnings = self.page.locator(".toast-body")
        if clear.is_visible():
            clear.click()
        # An earlier warning would pass for an answer to this file, which then is not there yet.
        self.page.evaluate("document.querySelectorAll('.toast-close').forEach((button) => button.click())")
        expect(warnings).to_have_count(0)
        self.choose("Drop an audio file here to upload", file)
        expect(clear.or_(warnings).first).to_be_visible()

    def choose(self, name, *files):
        with self.page.expect_file_chooser() as chooser:
            self.page.get_by_role("button", name=name).locator("visible=true").click()
        chooser.value.set_files(files)

    def voice(self, name):
        pattern = re.compile(rf"^{re.escape(name)}\b")
        return self.page.get_by_role("radio", name=pattern).locator("visible=true")

    def add_voice(self, *files):
        """Make a voice of recordings, with consent."""
        self.voice("Add a voice").check()
        self.page.get_by_role("checkbox", name="has agreed").locator("visible=true").check()
        self.choose("Drop file", *files)

    def download(self, suffix=".wav"):
        """What the button gives, and its name."""
        self.page.get_by_label("Format of the file").locator("visible=true").select_option(suffix)
        with self.page.expect_download() as download:
            self.page.get_by_role("link", name="Download", exact=True).locator("visible=true").click()
        return audio.read(download.value.path()), download.value.suggested_filename

    def press(self, button):
        """Press it, and wait for the next result."""
        with self.page.expect_response(lambda r: "%20-%20" in r.url):  # its folder is new
            button.click()
        expect(self.player).to_be_visible()

    def set(self, **sliders):
        for name, value in sliders.items():
            slider = self.page.get_by_label(f"number input for {name.title()}").locator("visible=true")
            slider.fill(str(value))
            slider.blur()

    def told(self, text):
        """The page says so, once."""
        expect(self.page.get_by_role("alert").filter(has_text=text)).to_have_count(1)

    def warned(self, text):
        """Gradio says so, about a file that it refuses."""
        expect(self.page.locator(".toast-body").filter(has_text=text).first).to_be_visible()
        self.page.locator(".toast-close").evaluate_all("all => all.forEach(e => e.click())")


@pytest.fixture
def visit(browser, server):
    """Open the page, as many times as wanted; nothing may be asked of another host, nothing may break."""
    users = []

    def visit(*args, **kwargs):
        users.append(User(browser, server.url, *args, **kwargs))
        return users[-1]

    yield visit
    for user in users:
        user.context.close()
    for user in users:
        assert user.elsewhere == []
        assert user.errors == []


def same(ours, theirs):
    """Whether one is the other, but for rounding in other places and to 16 bits."""
    return len(ours.samples) == len(theirs.samples) and np.abs(ours.samples - theirs.samples).max() < 2e-3


def talk(seconds, path):
    """Speech of so many seconds: a recording again and again."""
    samples = audio.read(SOURCE).samples
    Audio(np.resize(samples, seconds * RATE), RATE).write(path)
    return path


# What programs call


@pytest.fixture(scope="module")
def client(server):
    from gradio_client import Client

    return Client(server.url, verbose=False, download_files=server.folder / "downloads")


def sent(path):
    from gradio_client import handle_file

    return handle_file(path)


def test_programs_convert(client, vc):
    result = client.predict(sent(SOURCE), voice="Man 3", pitch_shift=2, strength=0.8, api_name="/convert")
    assert same(audio.read(result), vc.convert(SOURCE, OTHER_MAN, 2, 0.8, watermark=True))


def test_programs_convert_to_voices_of_their_own_with_consent(client, vc, tmp_path):
    from gradio_client.exceptions import AppError

    references = [sent(MAN), sent(OTHER_MAN)]
    with pytest.raises(AppError, match="agreed"):
        client.predict(sent(SOURCE), references=references, api_name="/convert")
    result = client.predict(sent(SOURCE), references=references, consent=True, api_name="/convert")
    assert same(audio.read(result), vc.convert(SOURCE, [MAN, OTHER_MAN], watermark=True))
    vc.voice([MAN, OTHER_MAN]).save(tmp_path / "both.voice")
    saved = [sent(tmp_path / "both.voice")]
    again = client.predict(sent(SOURCE), references=saved, consent=True, api_name="/convert")
    assert Path(again).name == "vcc2016-SF1-200001 - both.wav" or Path(again).name == "Woman 1 - both.wav"
    assert same(audio.read(again), audio.read(result))


def test_programs_convert_several_in_a_format(client, vc):
    sources = [sent(SOURCE), sent(MAN)]
    made = client.predict(sources, voice="Woman 3", format="flac", api_name="/convert_batch")
    with zipfile.ZipFile(made) as archive:
        assert archive.namelist() == ["Woman 1 - Woman 3.flac", "Man 1 - Woman 3.flac"]
        archive.extractall(Path(made).parent)
    made = audio.read(Path(made).parent / "Man 1 - Woman 3.flac")
    assert same(made, vc.convert(MAN, VOICES / "librispeech-40-121026-0007.flac", watermark=True))


def test_results_are_marked(client):
    assert vcae.detect(client.predict(sent(SOURCE), voice="Man 3", api_name="/convert")).found


def test_programs_embed(client, vc):
    np.testing.assert_allclose(client.predict(sent(MAN), api_name="/embed"), vc.embed(MAN), atol=1e-3)


def test_the_functions_are_documented(client):
    api = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert set(api) == {"/convert", "/convert_batch", "/embed", "/voices"}
    common = ["voice", "references", "consent", "pitch_shift", "strength", "format"]
    expected = {"/convert": ["source", *common], "/convert_batch": ["sources", *common]}
    expected |= {"/embed": ["recording"], "/voices": []}
    for name, parameters in expected.items():
        assert [p["parameter_name"] for p in api[name]["parameters"]] == parameters
        for each in [*api[name]["parameters"], *api[name]["returns"]]:
            assert " " in each["label"], f"{name}: a sentence about {each}"
    assert "Man 3" in client.predict(api_name="/voices")


def test_programs_are_told_what_is_wrong(client, tmp_path):
    from gradio_client.exceptions import AppError

    text = tmp_path / "notes.wav"
    text.write_text("hello")
    with pytest.raises(AppError, match=r"^'?notes\.wav: not an audio file"):
        client.predict(sent(text), api_name="/embed")
    with pytest.raises(AppError, match="5"):
        client.predict(sent(SOURCE), references=6 * [sent(MAN)], consent=True, api_name="/convert")
    with pytest.raises(AppError, match="semitones"):
        client.predict(sent(SOURCE), pitch_shift=99, api_name="/convert")


@pytest.mark.parametrize(
    "wrong",
    [
        {"source": 5},
        {"source": None},
        {"voice": "Nobody at all"},
        {"voice": 7},
        {"references": "text"},
        {"pitch_shift": "high"},
        {"strength": [1]},
        {"format": "wma"},
    ],
    ids=str,
)
def test_wrong_types_are_told_in_one_line(client, server, wrong):
    from gradio_client.exceptions import AppError

    arguments = {"source": sent(SOURCE), "consent": True, **wrong}
    before = server.log.read_text()
    with pytest.raises(AppError) as error:
        client.predict(**arguments, api_name="/convert")
    assert "\n" not in str(error.value)
    assert "verbose error reporting" not in str(error.value)
    assert "Traceback" not in server.log.read_text().removeprefix(before)


def test_only_what_was_uploaded_is_read(server):
    ours = {"path": str(SOURCE), "meta": {"_type": "gradio.FileData"}}
    call = f"{server.url}/gradio_api/call/embed"
    event = httpx.post(call, json={"data": [ours]}).json()["event_id"]
    assert "event: error" in httpx.get(f"{call}/{event}", timeout=PATIENCE / 1000).text


def test_answers_carry_headers_of_safety(server):
    headers = httpx.get(server.url).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "microphone=(self)" in headers["Permissions-Policy"]
    assert "default-src 'self'" in headers["Content-Security-Policy"]


@pytest.mark.parametrize("path", ["guessed/x.wav", "../../etc/passwd", "%2e%2e/log.txt", "a/%2e%2e%2fb.wav"])
def test_only_results_are_fetched_by_those_who_know_them(server, path):
    assert httpx.get(f"{server.url}/kept/{path}").status_code in (404, 405)


# The page


def test_one_press_of_a_key_converts_and_plays(visit, vc):
    user = visit()
    for _ in range(60):
        user.page.keyboard.press("Tab")
        if user.convert.evaluate("e => e === document.activeElement"):
            break
    user.page.keyboard.press("Enter")
    expect(user.status).to_contain_text("converted in")
    user.page.wait_for_function("document.querySelector('.player .position').value > 0.1")  # it is heard
    expect(user.page.get_by_role("img", name="Spectrograms and pitch")).to_be_visible()
    assert user.page.locator(".picture .row").count() == 3
    made, name = user.download()
    assert name == "Woman 1 - Man 1.wav"
    assert same(made, vc.convert(SOURCE, MAN, watermark=True))


def test_examples_and_mixing(visit, vc):
    user = visit()
    share = user.page.get_by_label("number input for Share")
    expect(share).to_be_disabled()  # it does nothing yet
    user.set(pitch=5)
    user.press(user.page.get_by_role("button", name="a voice between two"))
    source = VOICES / "vcc2016-TF2-200001.flac"
    woman, man = vc.voice(VOICES / "librispeech-40-121026-0007.flac"), vc.voice(OTHER_MAN)
    made, name = user.download()
    assert name == "Woman 2 - Woman 3 + Man 3 50 _.wav"
    assert same(made, vc.convert(source, Voice.mix([woman, man]), watermark=True))
    user.set(share=20, pitch=-3, strength=60)
    user.press(user.convert)
    assert same(
        user.download()[0], vc.convert(source, Voice.mix([woman, man], [0.8, 0.2]), -3, 0.6, watermark=True)
    )


def test_a_voice_of_ones_own_is_kept_in_the_browser(visit, vc, tmp_path):
    user, files = visit(), [SOURCE, VOICES / "vcc2016-TF2-200001.flac"]
    user.voice("Add a voice").check()
    user.convert.click()
    user.told("Confirm that the speaker has agreed")
    user.choose("Drop file", *files)
    expect(user.page.get_by_text("the speaker has agreed, and the voice is added").first).to_be_visible()
    user.page.get_by_role("checkbox", name="has agreed").locator("visible=true").check()
    expect(user.voice("vcc2016-SF1-200001")).to_be_checked()
    user.press(user.convert)
    wanted = vc.convert(SOURCE, files, watermark=True)
    assert same(user.download()[0], wanted)
    user.set(pitch=2)

    user.open()  # again
    expect(user.voice("vcc2016-SF1-200001")).to_be_checked()
    expect(user.page.get_by_label("number input for Pitch").first).to_have_value("2")
    user.set(pitch=0)
    user.press(user.convert)
    assert same(user.download()[0], wanted)
    sound = user.page.locator("[data-preview]:visible")
    assert sound.evaluate("async (e) => { await e.play(); return e.duration; }") > 3  # one's own recording
    for tab in ("Files", "Live", "Look inside"):
        user.open_tab(tab)
        expect(user.voice("vcc2016-SF1-200001")).to_be_checked()

    user.open_tab("Convert")
    with user.page.expect_download() as saved:
        user.page.get_by_role("button", name="Save this voice").locator("visible=true").click()
    path = tmp_path / saved.value.suggested_filename
    saved.value.save_as(path)
    assert same(vc.convert(SOURCE, path, watermark=True), wanted)
    user.page.get_by_role("button", name="Remove").locator("visible=true").first.click()
    expect(user.voice("Woman 1")).to_be_checked()
    expect(user.voice("vcc2016-SF1-200001")).to_have_count(0)

    other = visit()
    other.add_voice(path)
    expect(other.voice("vcc2016-SF1-200001")).to_be_checked()
    other.press(other.convert)
    assert same(other.download()[0], wanted)
    other.voice("Man 1").check()
    other.page.get_by_label("Mix in").click()
    other.page.get_by_role("option", name="vcc2016-SF1-200001").click()
    other.press(other.convert)
    assert same(
        other.download()[0], vc.convert(SOURCE, Voice.mix([vc.voice(MAN), vc.voice(path)]), watermark=True)
    )


def test_what_is_dropped_last_and_presets_are_kept(visit, tmp_path):
    user = visit()
    user.drop(talk(2, tmp_path / "mine.wav"))
    user.voice("Woman 3").check()
    user.set(pitch=4, strength=80)
    user.page.get_by_label("Keep these settings as").fill("mine")
    user.page.get_by_role("button", name="Keep", exact=True).click()
    user.set(pitch=-1, strength=100)
    user.voice("Man 2").check()
    user.page.wait_for_function("demo.own")
    user.open()
    expect(user.voice("Man 2")).to_be_checked()
    user.page.get_by_label("Your presets").click()
    user.page.get_by_role("option", name="mine").click()
    expect(user.voice("Woman 3")).to_be_checked()
    expect(user.page.get_by_label("number input for Pitch").first).to_have_value("4")
    user.page.wait_for_function("demo.own")  # the recording is there again
    user.press(user.convert)
    expect(user.player.locator(".made")).to_have_text("mine → Woman 3 · +4 · 80 %")


def test_what_is_no_voice_is_told(visit, vc, tmp_path):
    vc.voice(MAN).save(tmp_path / "man.voice")
    (tmp_path / "text.voice").write_text("no voice")
    Audio(audio.read(SOURCE).samples[:1000], RATE).write(tmp_path / "short.wav")
    for files in (["short.wav"], ["man.voice", "short.wav"], ["text.voice"]):
        user = visit()
        user.add_voice(*(tmp_path / file for file in files))
        alert = user.page.get_by_role("alert").locator("visible=true")
        expect(alert).to_have_count(1)
        expect(alert).to_contain_text(f"{files[0]}: ")


def bad_file(kind, folder):
    path = folder / f"{kind}.wav"
    if kind == "text":
        path.write_text("hello")
    elif kind == "empty":
        path.touch()
    elif kind == "silent":
        Audio(np.zeros(RATE, np.float32), RATE).write(path)
    elif kind == "half an hour":
        with wave.open(str(path), "wb") as file:
            file.setparams((1, 1, 8_000, 0, "NONE", ""))
            file.writeframes(b"\x80" * (1_800 * 8_000))
    elif kind == "200 MB":
        with path.open("wb") as file:
            file.truncate(200 * 2**20)
    elif kind == "video":
        import av

        path = path.with_suffix(".mp4")
        with av.open(str(path), "w") as container:
            stream = container.add_stream("mpeg4", rate=10, width=64, height=64, pix_fmt="yuv420p")
            black = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
            container.mux([*stream.encode(black), *stream.encode()])
    return path


def test_bad_files_are_told_and_the_page_goes_on(visit, tmp_path):
    user = visit()
    told = {
        "text": "text.wav: not an audio file",
        "empty": "empty.wav: is empty (0 bytes)",
        "silent": "silent.wav: is silent",
        "half an hour": "half an hour.wav: is longer than 10 minutes; cut it",
    }
    for kind, message in told.items():
        user.drop(bad_file(kind, tmp_path))
        user.convert.click()
        user.told(message)
        assert user.page.locator(".toast-body").count() == 0  # not a second time
    refused = {
        "200 MB": "exceed the maximum allowed size of 50.0 Mb",
        "video": "Invalid file type: video.mp4",
    }
    for kind, message in refused.items():
        user.drop(bad_file(kind, tmp_path))
        user.warned(message)
    user.drop(SOURCE)
    user.press(user.convert)


def test_long_recordings_show_progress_are_cancelled_and_let_others_in(visit, tmp_path):
    patient, hasty = visit(), visit()
    patient.drop(talk(400, tmp_path / "long.wav"))
    patient.convert.click()
    bar = patient.page.get_by_role("progressbar", name="How much is converted")
    expect(bar).to_be_visible()
    hasty.press(hasty.convert)
    assert bar.is_visible(), "the long one was not finished before the short one"
    assert 0 <= bar.evaluate("e => e.value") < 1
    patient.page.get_by_role("button", name="Cancel").click()
    expect(patient.status).to_have_text("Cancelled.")
    hasty.press(hasty.convert)  # whatever else was asked for is done by then
    expect(patient.status).to_have_text("Cancelled.")
    patient.page.once("dialog", lambda dialog: dialog.accept())
    patient.press(patient.page.get_by_role("button", name="a man's sentence"))


def test_an_example_asks_before_it_replaces_a_recording(visit, tmp_path):
    user, asked = visit(), []
    example = user.page.get_by_role("button", name="a man's sentence")
    user.press(example)  # a sample may be replaced
    user.drop(OTHER_MAN)
    user.page.wait_for_function("demo.own === false")  # a sample by its name
    user.drop(bad_file("silent", tmp_path))
    user.page.wait_for_function("demo.own")
    user.page.once("dialog", lambda dialog: (asked.append(dialog.message), dialog.dismiss()))
    example.click()
    user.convert.click()
    user.told("silent.wav: is silent")  # it is still there
    assert asked
    user.page.once("dialog", lambda dialog: dialog.accept())
    user.press(example)


def test_results_are_marked_when_the_settings_are_others(visit, tmp_path):
    user = visit()
    mark = user.player.get_by_text("made with other settings")
    user.press(user.convert)
    expect(mark).to_be_hidden()
    user.set(pitch=3)
    expect(mark).to_be_visible()
    user.set(pitch=0)
    expect(mark).to_be_hidden()
    user.voice("Woman 2").check()
    expect(mark).to_be_visible()
    user.press(user.convert)
    expect(mark).to_be_hidden()
    user.drop(bad_file("silent", tmp_path))
    expect(mark).to_be_visible()
    user.convert.click()
    user.told("silent.wav: is silent")
    expect(mark).to_be_visible()


def test_what_is_no_speech_is_not_called_speech(visit, tmp_path):
    user = visit()
    n = np.arange(3 * RATE)
    sounds = {"tone": 0.5 * np.sin(2 * np.pi * 150 * n / RATE), "click": 0.9 * (n % RATE < 8)}
    sounds["noise"] = 0.1 * np.random.default_rng(0).standard_normal(len(n))
    for name, samples in sounds.items():
        Audio(samples.astype(np.float32), RATE).write(tmp_path / f"{name}.wav")
        user.drop(tmp_path / f"{name}.wav")
        user.press(user.convert)
        expect(user.player.locator(".made")).to_have_text(f"{name} → Man 1")
        expect(user.status).to_contain_text("No speech was heard in it.")
        expect(user.page.get_by_text("How alike?")).to_be_hidden()


def test_how_alike_is_said_in_words(visit):
    user = visit()
    user.press(user.convert)
    alike = user.page.locator("#alike")
    voice, source = (alike.locator("dd").nth(i) for i in range(2))
    expect(voice).to_have_text(re.compile(r"^\s*(very )?like it$"))
    expect(source).to_have_text(re.compile(r"^\s*not like it$"))
    user.set(strength=0)
    user.press(user.convert)
    expect(alike.get_by_role("alert")).to_contain_text("The voice was not reached.")


def test_three_recordings_are_compared_at_one_position(visit):
    user = visit()
    user.press(user.convert)
    page, pressed = user.page, user.player.locator(".track[aria-pressed=true]")
    page.wait_for_function("document.querySelector('.player .position').value > 0.3")
    for key, name in (("1", "Source"), ("2", "Voice"), ("3", "Result"), ("1", "Source")):
        before = page.evaluate("Number(document.querySelector('.player .position').value)")
        page.keyboard.press(key)
        expect(pressed).to_have_text(f"{key} {name}")
        playing = "[...document.querySelectorAll('.player audio')].map((e) => e.paused ? 0 : e.currentTime)"
        now = page.evaluate(playing)
        assert sum(t > 0 for t in now) <= 1  # only one is heard
        assert page.evaluate("Number(document.querySelector('.player .position').value)") >= before
    user.player.get_by_role("button", name="Play or pause").click()
    assert page.evaluate("[...document.querySelectorAll('audio')].every((e) => e.paused)")


def test_a_marked_part_is_repeated(visit):
    user = visit()
    user.press(user.convert)
    user.page.wait_for_timeout(1000)  # the page scrolls to the result
    wave = user.player.locator(".strip").bounding_box()
    at = lambda share: (wave["x"] + share * wave["width"], wave["y"] + 20)  # noqa: E731
    user.page.mouse.move(*at(0.5))
    user.page.mouse.down()
    user.page.mouse.move(*at(0.6), steps=3)
    user.page.mouse.up()
    expect(user.player.get_by_role("button", name="Repeat")).to_have_attribute("aria-pressed", "true")
    length, turns = user.player.locator(".position").evaluate("e => Number(e.max)"), 0
    last = 0.0
    user.page.evaluate(
        "document.querySelector('.player').classList.contains('playing') || "
        "document.querySelector('.play-all').click()"
    )
    # The result may have played on to behind the part before it was marked.
    user.page.wait_for_function(f"document.querySelector('.player .position').value < {0.62 * length}")
    while turns < 2:
        now = user.player.locator(".position").evaluate("e => Number(e.value)")
        turns += now < last
        last = now
        assert 0.45 * length < now < 0.65 * length


def test_results_are_downloaded_at_the_rate_of_the_source(visit, tmp_path):
    Audio(audio.read(SOURCE, 44_100).samples, 44_100).write(tmp_path / "mine.wav")
    user = visit()
    user.drop(tmp_path / "mine.wav")
    user.press(user.convert)
    for suffix in (".wav", ".flac", ".mp3", ".opus", ".m4a"):
        made, name = user.download(suffix)
        assert name == f"mine - Man 1{suffix}"
        assert made.sample_rate == (48_000 if suffix == ".opus" else 44_100)
        assert abs(made.duration - audio.read(SOURCE).duration) < 0.1


SIZES = [(1280, 900), (390, 844), (320, 640)]
SCHEMES = ["light", "dark"]
# Whether the middle of an element is on the screen, and nothing lies over it.
IN_SIGHT = """(e) => {
  const { left, right, top, bottom } = e.getBoundingClientRect();
  const over = document.elementFromPoint((left + right) / 2, (top + bottom) / 2);
  const inside = top >= 0 && left >= 0 && bottom <= innerHeight && right <= innerWidth;
  return inside && (e.contains(over) || over?.contains(e));
}"""


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_result_and_its_buttons_are_in_sight(visit, size, scheme):
    user = visit(size, scheme)
    result = [
        *(user.page.get_by_role("button", name=n) for n in ("1 Source", "Play or pause", "Repeat")),
        user.page.get_by_role("link", name="Download", exact=True),
        user.page.get_by_label("Format of the file"),
        user.page.locator(".player .made"),
    ]
    actions = [
        ("Convert", user.convert, result),
        ("Convert", user.page.get_by_role("button", name="a man's sentence"), result),
        ("Repair", user.page.get_by_role("button", name="a telephone call"), result[1:]),
        ("Look inside", user.page.get_by_role("button", name="one long sound"), result[1:]),
        ("Look inside", user.page.get_by_role("button", name="Put together", exact=True), result[1:]),
    ]
    for tab, button, seen in actions:
        user.open_tab(tab)
        user.press(button)
        for element in seen:
            element = element.locator("visible=true")
            user.page.wait_for_function(IN_SIGHT, arg=element.element_handle())
    for tab, name in (("Live", "Start"), ("Files", "Convert all")):
        user.page.evaluate("scrollTo(0, 0)")
        user.open_tab(tab)
        assert user.page.get_by_role("button", name=name).evaluate(IN_SIGHT)


def test_several_files_become_one_archive(visit, vc, tmp_path):
    user = visit()
    user.open_tab("Files")
    go = user.page.get_by_role("button", name="Convert all")
    go.click()
    user.told("Drop some files first.")
    user.page.get_by_role("radio", name="FLAC").check()
    user.choose("Drop file", SOURCE, bad_file("text", tmp_path), MAN)
    expect(user.page.get_by_role("button", name="Remove this file")).to_have_count(3)
    go.click()
    expect(user.status).to_contain_text("Done: 2 of 3 converted.")
    expect(user.page.locator(".batch .error")).to_contain_text("text.wav: not an audio file")
    with user.page.expect_download() as download:
        user.page.get_by_role("link", name="Download vcae - Man 1.zip").click()
    with zipfile.ZipFile(download.value.path()) as archive:
        assert archive.namelist() == ["Woman 1 - Man 1.flac", "Man 1 - Man 1.flac"]
        (tmp_path / "made.flac").write_bytes(archive.read("Woman 1 - Man 1.flac"))
    assert same(audio.read(tmp_path / "made.flac"), vc.convert(SOURCE, MAN, watermark=True))
    assert audio.comment(tmp_path / "made.flac") == vc.comment("converted")


def test_several_files_are_cancelled(visit, tmp_path):
    user = visit()
    user.open_tab("Files")
    user.choose("Drop file", MAN, talk(500, tmp_path / "long.wav"))
    expect(user.page.get_by_role("button", name="Remove this file")).to_have_count(2)
    user.page.get_by_role("button", name="Convert all").click()
    expect(user.status).to_contain_text("left")
    expect(user.page.get_by_role("progressbar", name="long.wav")).to_be_visible()
    user.page.get_by_role("button", name="Cancel").locator("visible=true").click()
    expect(user.status).to_contain_text("Cancelled: ")


def test_the_parts_are_put_together(visit):
    user = visit()
    user.open_tab("Look inside")
    heard = []
    for name, sentence in (("A in B's voice", "B says A's sentence"), ("a whisper", "A whispers")):
        user.press(user.page.get_by_role("button", name=name).locator("visible=true"))
        expect(user.page.get_by_text(sentence)).to_be_visible()
        heard.append(user.download())
    assert [name for _, name in heard] == [
        "Woman 1 - Man 1 - A in B_s voice.wav",
        "Woman 1 - Man 1 - a whisper.wav",
    ]
    assert not same(heard[0][0], heard[1][0])
    assert user.page.locator(".picture:visible .row").count() == 9
    assert user.page.get_by_role("img", name="Map of speaker codes: Woman 1 at").is_visible()
    assert user.page.locator(".glance .on").count() == 3
    chosen = [user.page.get_by_role("radio", name=n, checked=True) for n in ("A's", "Blank")]
    assert all(c.first.is_visible() for c in chosen)
    boxes = user.page.locator(".chart text").evaluate_all(
        "all => all.map((e) => e.getBoundingClientRect().toJSON())"
    )
    for i, a in enumerate(boxes):
        for b in boxes[:i]:
            apart = a["right"] <= b["left"] or b["right"] <= a["left"]
            assert apart or a["bottom"] <= b["top"] + 3 or b["bottom"] <= a["top"] + 3  # lines have leading


def test_phones_are_read_edited_and_heard(visit, vc):
    user = visit()
    user.open_tab("Read")
    user.page.get_by_role("button", name="Read", exact=True).click()
    expect(user.status).to_contain_text("phones were read")
    reader = vcae.Transcriber(vc)
    phones = reader.transcribe(SOURCE)
    text = user.page.get_by_role("textbox", name="Phones")
    names = [phone.name for phone in phones]
    expect(text).to_have_value(" ".join(names))
    assert user.page.locator(".picture:visible .names span").all_inner_texts() == names
    speak = user.page.get_by_role("button", name="Speak")
    text.fill("no phones")
    speak.click()
    user.told("NO: no such phone")
    changed = [phones[0], phones[1]._replace(name="OY"), *phones[2:]]
    text.fill(" ".join(phone.name for phone in changed))
    user.page.get_by_role("radio", name="chosen here").check()
    user.press(speak)
    expect(user.status).to_contain_text("1 phones differ")
    made, name = user.download()
    assert name == "Woman 1 - Man 1 - edited.wav"
    assert same(made, vcae.watermark(reader.speak(SOURCE, changed, vc.voice(MAN))))
    assert user.page.locator(".picture:visible .row").count() == 2


def test_recordings_are_repaired(visit, tmp_path):
    user = visit()
    user.open_tab("Repair")
    for example, fault in (
        ("a sentence in noise", "Noise or echo"),
        ("a whisper", "Whispered, or on one note"),
        ("a telephone call", "Dull, as by telephone"),
    ):
        user.press(user.page.get_by_role("button", name=example).locator("visible=true"))
        expect(user.page.get_by_role("radio", name=fault)).to_be_checked()
        expect(user.player.locator(".made")).to_have_text(example)
        expect(user.status).to_contain_text("repaired.")
    assert user.page.locator(".picture:visible .row").count() == 2
    made, name = user.download()
    assert name == "a telephone call - repaired.wav"
    Audio(audio.read(SOURCE, 8_000).samples, 8_000).write(tmp_path / "narrow.wav")
    restorer = restore.load()
    narrow = audio.read(tmp_path / "narrow.wav")
    assert same(made, restorer.superres(narrow, 48_000))
    user.page.get_by_role("radio", name="Noise or echo").check()
    expect(user.player.get_by_text("made with other settings")).to_be_visible()
    user.press(user.page.get_by_role("button", name="Repair", exact=True))
    assert same(user.download()[0], restorer.denoise(narrow))


def test_every_cell_of_the_table_plays(visit):
    user = visit()
    user.open_tab("Look inside")
    for name in ("Woman 1", "Man 2"):
        user.page.get_by_role("checkbox", name=name, exact=True, checked=True).uncheck()
    user.page.get_by_role("button", name="Make the table").click()
    cells = user.page.get_by_role("button", name="sentence in the voice of")
    expect(cells).to_have_count(4)
    for cell in [
        *cells.all(),
        user.page.get_by_role("button", name="Play Man 3's own recording", exact=True),
    ]:
        cell.click()
        expect(cell).to_have_class("play playing")
        assert user.page.locator(".playing").count() == 1
    expect(user.page.locator(".playing")).to_have_count(0)  # it plays to its end


def test_live_converts_the_microphone(visit):
    user = visit()
    user.open_tab("Live")
    state, air = user.page.locator("[data-live=state]"), user.page.locator("#on-air")
    start, stop = (user.page.get_by_role("button", name=n, exact=True).first for n in ("Start", "Stop"))
    expect(air).to_be_hidden()
    start.click()
    expect(state).to_have_text("Listening: speak.")
    expect(start).to_be_disabled()
    user.page.wait_for_function("document.querySelector('[data-live=out]').value > 0.1")  # it is heard
    user.page.wait_for_function("parseInt(document.querySelector('[data-live=latency]').textContent) > 70")
    user.page.get_by_role("button", name="Record", exact=True).locator("visible=true").click()
    expect(user.page.get_by_role("button", name="Stop recording")).to_be_visible()
    user.voice("Woman 2").check()
    user.set(strength=50, pitch=3)
    assert user.page.locator("[data-live=microphone] option").count() > 1
    user.page.wait_for_timeout(1500)  # of speech
    user.page.get_by_role("button", name="Stop recording").click()
    with user.page.expect_download() as download:
        user.page.get_by_role("link", name="Download what was said").click()
    assert audio.read(download.value.path()).duration > 0.5
    user.open_tab("Convert")
    expect(air).to_contain_text("Microphone on for 0:")
    air.get_by_role("button", name="Stop").click()
    expect(air).to_be_hidden()
    user.open_tab("Live")
    expect(state).to_have_text("Stopped.")
    expect(start).to_be_enabled()
    expect(stop).to_be_disabled()


# Runs the audio thread's program without one: blocks arrive at once, but for a jam in which none do.
JAM = """async ([source, jam]) => {
  let Live;
  const scope = { registerProcessor: (_, it) => (Live = it), sampleRate: 48000, AudioWorkletProcessor: class {
    port = { postMessage: (data) => this.posted.push(data), onmessage: null };
    posted = [];
  } };
  new Function(...Object.keys(scope), source)(...Object.values(scope));
  const live = new Live(), delays = [], late = [];
  let last;
  for (let second = 0; second < 40; second++) {
    for (let i = 0; i < 375; i++) {
      const out = new Float32Array(128);
      live.process([[new Float32Array(128).fill(0.5)]], [[out]]);
      for (const data of live.posted.splice(0)) data.block ? late.push(data.block) : (last = data);
      if (second >= 5 && second < 5 + jam) continue;
      for (const block of late.splice(0)) live.port.onmessage({ data: block });
    }
    delays.push(last.delay);
  }
  return { delays, gaps: last.gaps, missing: last.missing };
}"""


@pytest.mark.parametrize("jam", [0, 1, 2])
def test_the_delay_returns_after_a_jam(visit, jam):
    source = (Path(__file__).parents[2] / "demo" / "static" / "worklet.js").read_text()
    heard = visit().page.evaluate(JAM, [source, jam])
    before, *_, after = heard["delays"]
    assert max(heard["delays"]) > before + 0.5 * jam - 0.01
    assert after < before + 0.05  # a cushion that a single machine does not need
    assert (heard["gaps"] == 0) == (jam == 0)
    assert heard["missing"] == pytest.approx(2 * jam, abs=0.2)  # silence while it lasts, then what came late


def test_as_many_may_speak_as_there_are_seats_and_others_wait(vc):
    from starlette.applications import Starlette
    from starlette.routing import Route
    from starlette.testclient import TestClient

    from demo.studio import RefusedError
    from demo.tabs.live import LARGEST, SEATS, WAITING, Seats

    seats, voice = Seats(), vc.voice(MAN)
    route = Route("/live/{ticket}", seats.answer, methods=["GET", "POST"])
    client = TestClient(Starlette(routes=[route]))
    first, *_ = (f"/live/{seats.take(vc.stream(voice))}" for _ in range(SEATS))
    waiting = [f"/live/{seats.take(vc.stream(voice))}" for _ in range(WAITING)]
    with pytest.raises(RefusedError, match="waiting"):
        seats.take(vc.stream(voice))
    assert client.get(first).json() == {"place": 0}
    assert [client.get(each).json()["place"] for each in waiting[:3]] == [1, 2, 3]
    heard = audio.read(SOURCE).samples[:RATE]
    assert client.post(waiting[0], content=heard.tobytes()).status_code == 409
    spoken = client.post(first, content=heard.tobytes()).content
    assert np.array_equal(np.frombuffer(spoken, np.float32), vc.stream(voice).feed(heard))
    assert client.post(first, content=bytes(LARGEST + 1)).status_code == 413
    client.post(first, content=b"")  # stands up
    assert client.post(first, content=heard.tobytes()).status_code == 404
    assert [client.get(each).json()["place"] for each in waiting[:3]] == [0, 1, 2]
    assert client.post(waiting[0], content=heard.tobytes()).status_code == 200


REJECT = "navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('', '{}'))"


def test_live_tells_what_is_missing(visit):
    user = visit()
    user.open_tab("Live")
    for without, told in (
        (REJECT.format("NotAllowedError"), "The microphone was refused"),
        (REJECT.format("NotFoundError"), "There is no microphone"),
        ("delete window.AudioWorkletNode", "This browser cannot do it"),
        (
            "Object.defineProperty(window, 'isSecureContext', {value: false})",
            "only to pages on this computer",
        ),
    ):
        user.page.evaluate(f"() => {{ {without} }}")
        user.page.get_by_role("button", name="Start").click()
        expect(user.page.locator("[data-live=state]")).to_contain_text(told)


NAMELESS = """[...document.querySelectorAll("button, input, select, textarea, [role=slider]")]
    .filter(e => e.checkVisibility() && !e.ariaLabel && !e.innerText?.trim() && !e.title && !e.labels?.length
              && !e.getAttribute("aria-labelledby") && e.type !== "file")
    .map(e => e.outerHTML.slice(0, 200))"""


TABS = {"Convert": "3. Listen", "Files": "3. Convert them", "Live": "1. Speak", "Look inside": "Recording B"}
TABS |= {"Repair": "3. Before and after", "Read": "3. Hear it"}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_all_tabs_fit_and_are_accessible(visit, tmp_path, scheme):
    """No sideways scrolling, names for everything that can be used, and no violation that axe-core finds."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    user = visit(scheme=scheme)
    user.press(user.convert)
    for tab, heading in TABS.items():
        user.open_tab(tab)
        expect(user.page.get_by_role("heading", name=heading)).to_be_visible()
        if tab == "Look inside":
            user.press(user.page.get_by_role("button", name="A in B's voice"))
        if tab == "Read":
            user.press(user.page.get_by_role("button", name="Speak"))
        if tab == "Repair":
            user.press(user.page.get_by_role("button", name="Repair", exact=True))
        for width, height in SIZES:
            user.page.set_viewport_size({"width": width, "height": height})
            assert user.page.evaluate("document.scrollingElement.scrollWidth") <= width
            user.page.screenshot(path=tmp_path / f"{tab}-{width}.png", full_page=True)
            found = axe.run(user.page, options={"rules": {"target-size": {"enabled": True}}}).response
            assert [(v["id"], n["html"]) for v in found["violations"] for n in v["nodes"]] == []
        user.page.set_viewport_size({"width": 1280, "height": 900})
        assert user.page.evaluate(NAMELESS) == []


@pytest.mark.parametrize("locale", ["en-US", "de-DE", "es-ES", "zh-CN"])
@pytest.mark.parametrize("size", SIZES[1:], ids=str)
def test_all_tabs_are_in_sight_on_a_phone(visit, size, locale):
    user = visit(size, locale=locale)
    tabs = user.page.get_by_role("tab").locator("visible=true")
    expect(tabs).to_have_count(len(TABS))
    for tab in tabs.all():
        assert tab.evaluate(IN_SIGHT), tab.inner_text()
        box = tab.bounding_box()
        assert min(box["width"], box["height"]) >= 24
    user.press(user.convert)
    assert user.page.evaluate("document.scrollingElement.scrollWidth") <= size[0]
    assert user.player.evaluate(CUT) == []


# What is wider than the player.
CUT = """(e) => [...e.querySelectorAll("button, a, select, p")].filter((each) => each.checkVisibility()
    && each.getBoundingClientRect().right > e.getBoundingClientRect().right).map((each) => each.innerText)"""
TEXTS = """() => {
  const found = [];
  const walker = document.createTreeWalker(document.querySelector(".gradio-container"), NodeFilter.SHOW_ALL);
  for (let node; (node = walker.nextNode()); ) {
    const box = node.nodeType === Node.TEXT_NODE ? node.parentElement : node;
    if (!box.checkVisibility?.() || box.closest("script, style, footer, [translate=no]")) continue;
    if (node === box)
      for (const name of ["aria-label", "title", "placeholder"]) found.push(box.getAttribute(name) ?? "");
    else found.push(node.data);
    if (box.matches("input[aria-haspopup]")) found.push(box.value);
  }
  return found.map((text) => text.trim());
}"""
EVERYWHERE = {"WAV", "FLAC", "MP0", "Opus", "M0A", "A", "B", "0 ms"}
ALSO = {"de": {"Live", "Start", "Format"}}


def seen(user, tabs):
    """All texts of the first tabs, before and after the action of each."""
    texts = set()
    for tab in user.page.get_by_role("tab").locator("visible=true").all()[:tabs]:
        tab.click()
        expect(tab).to_have_attribute("aria-selected", "true")
        texts |= set(user.page.evaluate(TEXTS))
        user.page.locator(".go button.primary").locator("visible=true").click()
        ended = ".outcome .player .made, .outcome .error, [data-live=in]"
        expect(user.page.locator(ended).locator("visible=true").first).to_be_visible()
        user.page.wait_for_timeout(500)  # until the pictures are there, too
        texts |= set(user.page.evaluate(TEXTS))
    words = {re.sub(r"\d+", "0", text) for text in texts}
    return {text for text in words if re.search(r"[^\W\d]{2}|^[A-Z]$", text)}


@pytest.fixture(scope="module")
def english(browser, server):
    user = User(browser, server.url)
    texts = seen(user, len(TABS))
    user.context.close()
    return texts


@pytest.mark.parametrize(("locale", "tabs"), [("de-DE", len(TABS)), ("es-ES", 1), ("zh-CN", 1)])
def test_the_page_speaks_the_language_of_the_browser(visit, english, locale, tabs):
    user = visit(locale=locale)
    texts = seen(user, tabs)
    assert len(texts) > 50
    assert texts & english - EVERYWHERE - ALSO.get(locale[:2], set()) == set()


def test_an_error_about_a_file_is_in_the_language_of_the_page(visit):
    user = visit(locale="de-DE")
    message = "silent.wav: is silent; give a recording of speech"
    user.page.locator(".outcome").first.evaluate("(e, text) => e.append(text)", message)
    expect(user.page.locator(".outcome").first).to_contain_text("silent.wav: ist stumm; eine Aufnahme mit")


def test_arrow_keys_choose_a_voice_at_one_stop_of_the_tab_key(visit):
    user = visit()
    user.voice("Man 1").focus()
    user.page.keyboard.press("ArrowDown")
    expect(user.voice("Man 2")).to_be_checked()
    expect(user.voice("Man 2")).to_be_focused()
    user.page.keyboard.press("ArrowUp")
    user.page.keyboard.press("ArrowUp")
    expect(user.voice("Woman 3")).to_be_checked()
    user.page.keyboard.press("Tab")
    assert user.page.evaluate("document.activeElement.type") != "radio"
    user.press(user.convert)
    expect(user.player.locator(".made")).to_have_text("Woman 1 → Woman 3")


# Another browser

FIREFOX = next(filter(None, map(shutil.which, ("firefox", "firefox-esr"))), None)
PREFERENCES = {
    "media.navigator.streams.fake": True,
    "media.navigator.permission.disabled": True,
    "media.autoplay.default": 0,
    "intl.accept_languages": "en-US",
}


class Firefox:
    """Firefox, by its own protocol, WebDriver BiDi: Playwright drives only a Firefox of its own, which no
    package manager has."""

    def __init__(self, folder):
        (folder / "user.js").write_text(
            "".join(f"user_pref({json.dumps(k)}, {json.dumps(v)});\n" for k, v in PREFERENCES.items())
        )
        command = [
            FIREFOX,
            "--headless",
            "--no-remote",
            "--profile",
            str(folder),
            "--remote-debugging-port=0",
        ]
        self.loudspeaker = Loudspeaker(folder) if Loudspeaker.PROGRAM else None
        environment = os.environ | (self.loudspeaker.environment if self.loudspeaker else {})
        with (folder / "log.txt").open("w") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        deadline = time.monotonic() + PATIENCE / 1000
        while not (found := re.search(r"ws://[\d.:]+", (folder / "log.txt").read_text())):
            assert self.process.poll() is None and time.monotonic() < deadline, "Firefox does not come up"
            time.sleep(0.2)
        self.socket = websockets.connect(f"{found[0]}/session", max_size=None)
        self.number = 0
        self.ask("session.new", capabilities={})
        self.page = self.ask("browsingContext.getTree")["contexts"][0]["context"]

    def ask(self, method, **params):
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": params}))
        while (answer := json.loads(self.socket.recv(PATIENCE / 1000))).get("id") != self.number:
            pass
        assert answer["type"] == "success", answer
        return answer["result"]

    def wait_for(self, expression):
        """Until it is true on the page."""
        deadline = time.monotonic() + PATIENCE / 1000
        target = {"context": self.page}
        run = {"expression": f"Boolean({expression})", "target": target, "awaitPromise": True}
        while not (answer := self.ask("script.evaluate", **run)).get("result", {}).get("value"):
            assert time.monotonic() < deadline, (expression, answer)
            time.sleep(0.2)

    def close(self):
        self.socket.close()
        processes = [self.process, *([self.loudspeaker.process] if self.loudspeaker else [])]
        for process in processes:
            process.terminate()
            process.wait()


class Loudspeaker:
    """A sound device that nobody hears: a server of PulseAudio. Firefox plays nothing without a device."""

    PROGRAM = shutil.which("pulseaudio")

    def __init__(self, folder):
        socket = folder / "loudspeaker"
        self.environment = {"PULSE_SERVER": f"unix:{socket}"}
        modules = ["module-null-sink", f"module-native-protocol-unix socket={socket} auth-anonymous=1"]
        command = [self.PROGRAM, "-n", "--daemonize=no", *(f"--load={module}" for module in modules)]
        home = {"HOME": str(folder), "XDG_RUNTIME_DIR": str(folder)}
        with (folder / "pulse.txt").open("w") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | home)
        deadline = time.monotonic() + PATIENCE / 1000
        while not socket.exists():
            assert self.process.poll() is None and time.monotonic() < deadline, "PulseAudio does not come up"
            time.sleep(0.1)


@pytest.fixture
def firefox(tmp_path):
    if FIREFOX is None:
        pytest.skip("no Firefox here: apt-get install firefox-esr")
    browser = Firefox(tmp_path)
    yield browser
    browser.close()


PRESS = "[...document.querySelectorAll('button')].find((e) => e.checkVisibility() && e.innerText === '{}')"


def test_firefox_converts_plays_and_speaks_live(firefox, server):
    def press(name):
        firefox.wait_for(f"{PRESS.format(name)}.click() ?? true")

    firefox.ask("browsingContext.navigate", context=firefox.page, url=server.url, wait="complete")
    firefox.wait_for("window.demo.ready")
    firefox.wait_for("document.querySelector('.go button.primary').click() ?? true")
    firefox.wait_for("document.querySelector('.player .position').value > 0.3")  # it is heard
    press("1 Source")
    firefox.wait_for("document.querySelector('.player .track').getAttribute('aria-pressed') === 'true'")
    press("Live")
    press("Start")
    firefox.wait_for("document.querySelector('[data-live=state]').innerText === 'Listening: speak.'")
    if firefox.loudspeaker:
        firefox.wait_for("parseInt(document.querySelector('[data-live=latency]').textContent) > 70")
        firefox.wait_for("document.querySelector('[data-live=out]').value > 0.01")
    press("Stop")
    firefox.wait_for("document.querySelector('#on-air').hidden")


# The server


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--auth", "anna"], "--auth must be NAME:PASSWORD"),
        (["--port", "{taken}"], "try another --port"),
        (["--port", "80000"], "try another --port"),
        (["--host", "no.such.host.invalid"], "cannot listen at no.such.host.invalid"),
    ],
)
def test_options_that_cannot_be_are_told_in_one_line(options, told, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        options = [option.format(taken=taken.getsockname()[1]) for option in options]
        with pytest.raises(SystemExit) as end:
            cli.main(["demo", *options])
    assert end.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert told in lines[0]


def test_the_page_is_for_those_with_the_password(start):
    server = start("--auth", "anna:secret")
    assert httpx.get(f"{server.url}/config").status_code == 401
    assert httpx.post(f"{server.url}/live/guessed", content=b"0123").status_code == 404
    with httpx.Client() as client:
        client.post(f"{server.url}/login", data={"username": "anna", "password": "secret"})
        assert client.get(f"{server.url}/config").status_code == 200


def test_a_restart_forgets_everything_and_an_open_page_goes_on(start, server, browser):
    """The last of those that use this server."""
    user = User(browser, server.url)
    assert server.kept()
    assert server.stop() == 0
    assert not server.kept()
    log = server.log.read_text()
    assert "REACHES OUT" not in log
    assert "Traceback" not in log
    with user.page.expect_event("load"):  # by itself
        start(port=server.port)
    user.press(user.convert)
    assert user.elsewhere == []
    user.context.close()
