"""The demo as its tests see it: a server of its own, and someone with a browser."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import wave
from pathlib import Path

import numpy as np
import pytest
from conftest import VOICES

import vcae
from vcae import Audio, audio

pytest.importorskip("gradio")
playwright = pytest.importorskip("playwright.sync_api")
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
        log = server.log.read_text()
        assert "REACHES OUT" not in log
        assert "Traceback" not in log


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
