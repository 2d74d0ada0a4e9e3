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
from rich.console import Console

import vcae
import vcae.__main__ as cli
from vcae import Audio, Voice, audio

pytest.importorskip("gradio")
playwright = pytest.importorskip("playwright.sync_api")
expect = playwright.expect

# One server and one browser serve all of them, which takes minutes where other work goes on.
pytestmark = pytest.mark.skipif(
    not os.environ.get("VCAE_BROWSER_TESTS"),
    reason="they need minutes: VCAE_BROWSER_TESTS=1 python -m pytest -n 0 tests/test_demo.py",
)

RATE = 16_000
SOURCE, MAN, OTHER_MAN = (
    VOICES / name
    for name in ("vcc2016-SF1-200001.flac", "librispeech-78-368-0031.flac", "librispeech-26-495-0007.flac")
)
PATIENCE = 90_000  # ms; a busy machine is no defect
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
from vcae.__main__ import main
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
        here = Path(__file__).parents[1]
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
    """Chromium, its microphone playing a sentence again and again."""
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
        browser = p.chromium.launch(executable_path=CHROMIUM, args=[*QUIET, *fake])
        yield browser
        browser.close()


class User:
    """Someone who has opened the page."""

    def __init__(self, browser, url, width=1280, **options):
        self.context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        self.context.set_default_timeout(PATIENCE)
        self.page = self.context.new_page()
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
        """Put a recording in the place of the one that is there."""
        clear = self.page.get_by_role("button", name="Clear").first
        if clear.is_visible():
            clear.click()
        self.choose("Drop an audio file here to upload", file)

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
        played = "document.querySelector('#result audio')?.src"
        before = self.page.evaluate(played)
        button.click()
        self.page.wait_for_function(f"before => {played} && {played} !== before", arg=before)
        expect(self.status).to_contain_text("converted in", timeout=PATIENCE)
        expect(self.page.get_by_role("button", name="Cancel")).to_be_hidden()

    def warned(self, text):
        expect(self.page.locator(".toast-body").filter(has_text=text).first).to_be_visible(timeout=PATIENCE)
        for close in self.page.locator(".toast-close").all():
            close.click()


@pytest.fixture
def visit(browser, server):
    """Open the page, as many times as wanted; nothing may be asked of another host, nothing may break."""
    users = []

    def visit(**options):
        users.append(User(browser, server.url, **options))
        return users[-1]

    yield visit
    for user in users:
        assert user.elsewhere == []
        assert user.errors == []
        user.context.close()


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
    expect(user.status).to_contain_text("converted in", timeout=PATIENCE)
    expect(user.page.locator("#result time").first).not_to_have_text("0:00", timeout=PATIENCE)
    expect(user.page.get_by_role("img", name="Spectrograms and pitch")).to_be_visible(timeout=PATIENCE)
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
        expect(user.page.get_by_role("button", name="Clear").first).to_be_visible(timeout=PATIENCE)
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
    expect(user.page.get_by_role("button", name="Clear").first).to_be_visible(timeout=PATIENCE)
    user.press(user.convert)


def test_long_recordings_show_progress_are_cancelled_and_let_others_in(visit, tmp_path):
    patient, hasty = visit(), visit()
    patient.drop(talk(400, tmp_path / "long.wav"))
    expect(patient.page.locator("time", has_text="6:40")).to_be_visible(timeout=PATIENCE)
    patient.convert.click()
    bar = patient.page.get_by_role("progressbar", name="How much is converted")
    expect(bar).to_be_visible(timeout=PATIENCE)
    hasty.press(hasty.convert)
    assert bar.is_visible(), "the long one was not finished before the short one"
    assert 0 <= bar.evaluate("e => e.value") < 1
    patient.page.get_by_role("button", name="Cancel").click()
    expect(patient.status).to_have_text("Cancelled.")
    time.sleep(1)  # in which nothing more may come
    expect(patient.status).to_have_text("Cancelled.")
    patient.press(patient.page.get_by_role("button", name="a man's sentence"))


def test_the_parts_are_put_together(visit):
    user = visit()
    user.open_tab("Look inside")
    time_played = user.page.get_by_test_id("waveform-The result").locator("visible=true").locator("time")
    heard = {}
    for name in ("A in B's voice", "a whisper"):
        user.page.get_by_role("button", name=name).click()
        result = user.page.locator("audio[data-testid='audio-player-The result']").last
        user.page.wait_for_function(
            "e => e.src && !Object.values(window.heard ?? {}).includes(e.src)",
            arg=result.element_handle(),
            timeout=PATIENCE,
        )
        heard[name] = user.page.evaluate(
            "([e, name]) => (window.heard ??= {})[name] = e.src", [result.element_handle(), name]
        )
    assert len(set(heard.values())) == 2
    expect(time_played.first).to_be_visible()
    assert user.page.locator(".picture:visible .row").count() == 9
    assert user.page.get_by_role("img", name="Map of speaker codes: Woman 1 at").is_visible()
    chosen = [user.page.get_by_role("radio", name=n, checked=True) for n in ("A's", "Blank")]
    assert all(c.first.is_visible() for c in chosen)


def test_every_cell_of_the_table_plays(visit):
    user = visit()
    user.open_tab("Look inside")
    for name in ("Woman 1", "Man 2"):
        user.page.get_by_role("checkbox", name=name, checked=True).uncheck()
    user.page.get_by_role("button", name="Make the table").click()
    cells = user.page.get_by_role("button", name="sentence in the voice of")
    expect(cells).to_have_count(4, timeout=PATIENCE)
    for cell in [*cells.all(), user.page.get_by_role("button", name="Man 3's own recording")]:
        cell.click()
        expect(cell).to_have_class("play playing")
        assert user.page.locator(".playing").count() == 1
    expect(user.page.locator(".playing")).to_have_count(0, timeout=PATIENCE)  # it plays to its end


def test_live_converts_the_microphone_of_as_many_as_there_are_seats(visit):
    users = [visit() for _ in range(3)]
    for user in users:
        user.open_tab("Live")
        user.state = user.page.locator("[data-live=state]")
        user.page.get_by_role("button", name="Start").click()
        if user is not users[-1]:
            expect(user.state).to_have_text("Listening: speak.", timeout=PATIENCE)
    users[-1].warned("2 others are speaking just now")
    first = users[0].page
    first.wait_for_function("document.querySelector('[data-live=out]').value > 0.1", timeout=PATIENCE)
    assert 70 < int(first.locator("[data-live=latency]").text_content().removesuffix(" ms")) < PATIENCE
    assert "from mouth to ear" in first.locator("[data-live=detail]").text_content()
    first.get_by_role("button", name="Stop").click()
    expect(users[0].state).to_have_text("Stopped.")
    users[-1].page.get_by_role("button", name="Start").click()
    expect(users[-1].state).to_have_text("Listening: speak.", timeout=PATIENCE)


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
        expect(user.page.locator("[data-live=state]")).to_contain_text(told, timeout=PATIENCE)


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_all_tabs_fit_and_have_names(visit, width, scheme):
    """No sideways scrolling, and everything that can be used has a name to be called by."""
    user = visit(width=width, color_scheme=scheme)
    for tab in ("Convert", "Live", "Look inside"):
        user.open_tab(tab)
        user.page.wait_for_timeout(300)
        assert user.page.evaluate("document.scrollingElement.scrollWidth") <= width
        nameless = user.page.evaluate(
            """[...document.querySelectorAll("button, input, select, textarea, [role=slider]")]
               .filter(e => e.checkVisibility() && !e.ariaLabel && !e.innerText?.trim() && !e.title
                         && !e.labels?.length && !e.getAttribute("aria-labelledby") && e.type !== "file")
               .map(e => e.outerHTML.slice(0, 200))"""
        )
        assert nameless == []


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
def test_options_that_cannot_be_are_told_in_one_line(options, told, capsys, monkeypatch):
    monkeypatch.setattr(cli, "err", Console(file=sys.stderr, soft_wrap=True))
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
    start(port=server.port)
    user.press(user.convert)
    assert user.elsewhere == []
    user.context.close()
