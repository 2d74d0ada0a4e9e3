"""The browser demo: what programs call, the tab that converts one recording, and the server."""

import re
import socket
import zipfile
from pathlib import Path

import httpx
import numpy as np
import pytest
from conftest import VOICES
from demo_page import MAN, OTHER_MAN, PATIENCE, RATE, SOURCE, User, bad_file, expect, same, talk

import vcae
from vcae import Audio, Voice, audio
from vcae.cli import main as cli

pytestmark = pytest.mark.slow
pytest_plugins = ["demo_page"]


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


def test_the_page_never_waits_for_its_scripts(visit):
    """Gradio does not wait for scripts that are files: its load event came first on a busy machine."""
    user = visit()
    user.context.route("**/page/*.js", lambda route: route.abort())
    user.open()
    user.press(user.convert)


def test_a_browser_whose_storage_never_answers_converts(visit):
    user = visit()
    user.context.add_init_script("IDBFactory.prototype.open = () => ({})")
    user.open()
    user.press(user.convert)


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
    with user.page.expect_event("load"):  # by itself
        start(port=server.port)
    user.press(user.convert)
    assert user.elsewhere == []
    user.context.close()
