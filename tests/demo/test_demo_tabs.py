"""The browser demo: the tabs beside the first, and Firefox."""

import json
import os
import re
import shutil
import subprocess
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from demo_page import MAN, PATIENCE, RATE, SOURCE, bad_file, expect, same, talk

import vcae
from vcae import Audio, audio
from vcae.uses import restore

websockets = pytest.importorskip("websockets.sync.client")


pytestmark = pytest.mark.slow
pytest_plugins = ["demo_page"]


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
