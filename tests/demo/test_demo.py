"""The browser demo: its page in a real browser, and the functions that programs call."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import wave
from pathlib import Path

import httpx
import numpy as np
import pytest
from conftest import VOICES

import vcae
from vcae import Audio, Voice, audio
from vcae.cli import main as cli

pytestmark = pytest.mark.slow

pytest.importorskip("gradio")
playwright = pytest.importorskip("playwright.sync_api")
expect = playwright.expect

RATE = 16_000
SOURCE, MAN, OTHER_MAN = (
    VOICES / name
    for name in ("vcc2016-SF1-200001.flac", "librispeech-78-368-0031.flac", "librispeech-26-495-0007.flac")
)
PATIENCE = 40_000  # ms; a busy machine is no defect
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
        browser = chromium.new_context(viewport={"width": 1280, "height": 900})
        browser.set_default_timeout(PATIENCE)
        yield browser
        chromium.close()


class User:
    """Someone who has opened the page, which the server tells from all other open pages."""

    def __init__(self, browser, url):
        self.page = browser.new_page()
        self.elsewhere, self.errors = [], []
        self.page.on("request", lambda r: self.note(r.url, url))
        self.page.on("pageerror", lambda e: self.errors.append(str(e)))
        self.page.goto(url)
        self.convert = self.page.get_by_role("button", name="Convert", exact=True)
        self.convert.wait_for()
        self.status = self.page.locator(".prose.status")

    def note(self, address, url):
        if not address.startswith((url, "data:", "blob:")):
            self.elsewhere.append(address)

    def open_tab(self, name):
        self.page.get_by_role("tab", name=name).click()

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
            self.page.get_by_role("button", name=name).click()
        chooser.value.set_files(files)

    def download(self):
        with self.page.expect_download() as download:
            self.page.get_by_role("button", name="Download").click()
        return audio.read(download.value.path())

    def press(self, button):
        """Press it, and wait for the next result."""
        with self.page.expect_response(lambda r: r.url.endswith("/converted.wav")):  # its folder is new
            button.click()
        expect(self.status).to_contain_text("converted in")
        expect(self.page.get_by_role("button", name="Cancel")).to_be_hidden()

    def warned(self, text):
        expect(self.page.locator(".toast-body").filter(has_text=text).first).to_be_visible()
        self.page.locator(".toast-close").evaluate_all("all => all.forEach(e => e.click())")


@pytest.fixture
def visit(browser, server):
    """Open the page, as many times as wanted; nothing may be asked of another host, nothing may break."""
    users = []

    def visit():
        users.append(User(browser, server.url))
        return users[-1]

    yield visit
    for user in users:
        user.page.close()
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
    assert same(audio.read(result), vc.convert(SOURCE, OTHER_MAN, 2, 0.8))


def test_programs_convert_to_voices_of_their_own_with_consent(client, vc):
    from gradio_client.exceptions import AppError

    references = [sent(MAN), sent(OTHER_MAN)]
    with pytest.raises(AppError, match="agreed"):
        client.predict(sent(SOURCE), references=references, api_name="/convert")
    result = client.predict(sent(SOURCE), references=references, consent=True, api_name="/convert")
    assert same(audio.read(result), vc.convert(SOURCE, [MAN, OTHER_MAN]))


def test_programs_embed(client, vc):
    np.testing.assert_allclose(client.predict(sent(MAN), api_name="/embed"), vc.embed(MAN), atol=1e-3)


def test_the_functions_are_documented(client):
    api = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert set(api) == {"/convert", "/embed"}
    names = [p["parameter_name"] for p in api["/convert"]["parameters"]]
    assert names == ["source", "voice", "references", "consent", "pitch_shift", "strength"]


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


def test_only_what_was_uploaded_is_read(server):
    ours = {"path": str(SOURCE), "meta": {"_type": "gradio.FileData"}}
    call = f"{server.url}/gradio_api/call/embed"
    event = httpx.post(call, json={"data": [ours]}).json()["event_id"]
    assert "event: error" in httpx.get(f"{call}/{event}", timeout=PATIENCE / 1000).text


# The page


def test_one_press_of_a_key_converts_and_plays(visit, vc):
    user = visit()
    for _ in range(60):
        user.page.keyboard.press("Tab")
        if user.convert.evaluate("e => e === document.activeElement"):
            break
    user.page.keyboard.press("Enter")
    expect(user.status).to_contain_text("converted in")
    expect(user.page.locator("#result time").first).not_to_have_text("0:00")  # it is heard
    expect(user.page.get_by_role("img", name="Spectrograms and pitch")).to_be_visible()
    assert user.page.locator(".picture .row").count() == 3
    assert same(user.download(), vc.convert(SOURCE, MAN))


def test_examples_and_mixing(visit, vc):
    user = visit()
    user.press(user.page.get_by_role("button", name="a voice between two"))
    source = VOICES / "vcc2016-TF2-200001.flac"
    woman, man = vc.voice(VOICES / "librispeech-40-121026-0007.flac"), vc.voice(OTHER_MAN)
    assert same(user.download(), vc.convert(source, Voice.mix([woman, man])))
    user.page.get_by_label("number input for Share").fill("20")
    user.page.get_by_label("number input for Pitch").fill("-3")
    user.page.get_by_label("number input for Strength").fill("60")
    user.page.get_by_label("number input for Strength").blur()
    user.press(user.convert)
    assert same(user.download(), vc.convert(source, Voice.mix([woman, man], [0.8, 0.2]), -3, 0.6))


def test_own_recordings_with_consent_asked_once(visit, vc):
    user = visit()
    user.drop(MAN)
    user.page.get_by_label("My own recordings").click()
    user.convert.click()
    user.warned("Drop or record a few seconds of the voice first")
    user.choose("Click to upload or drop files", SOURCE, VOICES / "vcc2016-TF2-200001.flac")
    expect(user.page.get_by_text("vcc2016-TF2-200001")).to_be_visible()
    user.convert.click()
    user.warned("confirm first that the speaker has agreed")
    user.page.get_by_role("checkbox", name="has agreed").check()
    user.press(user.convert)
    assert same(user.download(), vc.convert(MAN, [SOURCE, VOICES / "vcc2016-TF2-200001.flac"]))
    user.open_tab("Live")
    user.page.get_by_label("My own recordings").locator("visible=true").click()
    expect(user.page.get_by_role("checkbox", name="has agreed").locator("visible=true")).to_be_checked()


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
        "silent": "is silent",
        "half an hour": "half an hour.wav: is longer than 10 minutes; cut it",
    }
    for kind, message in told.items():
        user.drop(bad_file(kind, tmp_path))
        user.convert.click()
        user.warned(message)
        expect(user.status).to_contain_text(message)
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
    patient.press(patient.page.get_by_role("button", name="a man's sentence"))


def test_the_parts_are_put_together(visit):
    user = visit()
    user.open_tab("Look inside")
    heard = []
    for name in ("A in B's voice", "a whisper"):
        with user.page.expect_response(lambda r: r.url.endswith("/together.wav")) as sound:
            user.page.get_by_role("button", name=name).click()
        heard.append(sound.value.body())
    assert heard[0] != heard[1]
    expect(user.page.locator("#together time").first).not_to_have_text("0:00")  # it is heard
    assert user.page.locator(".picture:visible .row").count() == 9
    assert user.page.get_by_role("img", name="Map of speaker codes: Woman 1 at").is_visible()
    chosen = [user.page.get_by_role("radio", name=n, checked=True) for n in ("A's", "Blank")]
    assert all(c.first.is_visible() for c in chosen)


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
    state = user.page.locator("[data-live=state]")
    user.page.get_by_role("button", name="Start").click()
    expect(state).to_have_text("Listening: speak.")
    user.page.wait_for_function("document.querySelector('[data-live=out]').value > 0.1")  # it is heard
    user.page.wait_for_function("parseInt(document.querySelector('[data-live=latency]').textContent) > 70")
    expect(user.page.locator("[data-live=detail]")).to_contain_text("from mouth to ear")
    user.page.get_by_role("button", name="Stop").click()
    expect(state).to_have_text("Stopped.")


def test_as_many_may_speak_as_there_are_seats(vc):
    from starlette.applications import Starlette
    from starlette.routing import Route
    from starlette.testclient import TestClient

    from demo.studio import RefusedError
    from demo.tabs.live import LARGEST, SEATS, Seats

    seats, voice = Seats(), vc.voice(MAN)
    client = TestClient(Starlette(routes=[Route("/live/{ticket}", seats.convert, methods=["POST"])]))
    first, *_ = (f"/live/{seats.take(vc.stream(voice))}" for _ in range(SEATS))
    with pytest.raises(RefusedError, match=f"{SEATS} others are speaking just now"):
        seats.take(vc.stream(voice))
    heard = audio.read(SOURCE).samples[:RATE]
    spoken = client.post(first, content=heard.tobytes()).content
    assert np.array_equal(np.frombuffer(spoken, np.float32), vc.stream(voice).feed(heard))
    assert client.post(first, content=bytes(LARGEST + 1)).status_code == 413
    client.post(first, content=b"")  # stands up
    assert client.post(first, content=heard.tobytes()).status_code == 404
    seats.take(vc.stream(voice))


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


def test_all_tabs_fit_and_have_names(visit, tmp_path):
    """No sideways scrolling, and everything that can be used has a name to be called by."""
    user = visit()
    user.press(user.convert)
    for tab, heading in (("Convert", "3. Listen"), ("Live", "2. Speak"), ("Look inside", "Put together")):
        user.open_tab(tab)
        expect(user.page.get_by_role("heading", name=heading)).to_be_visible()
        for width, scheme in ((1280, "light"), (390, "dark")):
            user.page.set_viewport_size({"width": width, "height": 900})
            user.page.emulate_media(color_scheme=scheme)
            assert user.page.evaluate("document.scrollingElement.scrollWidth") <= width
            user.page.screenshot(path=tmp_path / f"{tab}-{width}.png", full_page=True)
        assert user.page.evaluate(NAMELESS) == []


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
    refused = log.count("InvalidPathError: Cannot move")  # which Gradio tells at length
    assert log.count("Traceback") == refused
    with user.page.expect_event("load"):  # by itself
        start(port=server.port)
    user.press(user.convert)
    assert user.elsewhere == []
    user.page.close()
