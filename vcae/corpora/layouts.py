"""Readers of speech corpora: one function for each layout, and the table `READERS`.

A reader takes the folder of one corpus, in the layout in which its makers publish it, and lists its
utterances. To add a corpus, write a reader and enter it in `READERS`. Where a corpus comes from and under
which licence is in `vcae.corpora.sources`.
"""

import csv
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from vcae.audio import AUDIO_SUFFIXES, find_audio
from vcae.corpora.utterance import ASTERISK_VOICES, HELD_OUT_SPEAKERS, CorpusError, Utterance

_DSPSPEECH_WORDS = (
    *("数字", "语音", "语言", "识别", "中国", "总工", "北京", "背景", "上海", "商行", "复旦", "饭店"),
    *("Speech", "Speaker", "Signal", "Process", "Print", "Open", "Close", "Project"),
)
_MLS_LANGUAGES = {
    "dutch": "nl",
    "english": "en",
    "french": "fr",
    "german": "de",
    "italian": "it",
    "polish": "pl",
    "portuguese": "pt",
    "spanish": "es",
}
_NO_LANGUAGE = "zxx"  # ISO 639 for "no linguistic content"


Reader = Callable[[Path, Path | None], list[Utterance]]
"""What every entry of READERS is: called with the folder of a corpus and the folder of transcripts."""


# The corpora. Most readers match the end of a path, less its suffix, so that it makes no difference
# whether they are given the corpus, the folder above it, or one of its parts.


def vcc2016(root: Path, transcripts: Path | None = None) -> list[Utterance]:
    """Voice Conversion Challenge 2016: ``SF1/100001``; parallel sentences of ten speakers."""
    texts = _transcripts(transcripts, "vcc2016")
    return _sorted(
        _utterance(path, "vcc2016", found["speaker"], found["id"], texts.get(found["id"]))
        for path, found in _matching(root, "SF1/100001", r"(?P<speaker>[ST][FM]\d)/(?P<id>\d{6})")
    )


def vcc2018(root: Path, transcripts: Path | None = None) -> list[Utterance]:
    """Voice Conversion Challenge 2018: ``VCC2SF1/10001``; parallel sentences of twelve speakers."""
    texts = _transcripts(transcripts, "vcc2018")
    return _sorted(
        _utterance(path, "vcc2018", found["speaker"], found["id"], texts.get(found["id"]))
        for path, found in _matching(root, "VCC2SF1/10001", r"(?P<speaker>VCC2[ST][FM]\d)/(?P<id>\d{5})")
    )


def librispeech(root: Path, transcripts: Path | None = None) -> list[Utterance]:
    """LibriSpeech, any of its parts: ``84/121123/84-121123-0000`` beside ``84-121123.trans.txt``.

    LibriTTS' file names (``84_121123_000007_000001``) are read too: the readers are the same people.
    """
    texts = _transcripts(transcripts, "librispeech")
    for path in _lists(root, "*.trans.txt"):
        texts.update(_keyed_lines(path))
    return _sorted(
        _utterance(path, "librispeech", found["speaker"], found["id"], texts.get(found["id"]))
        for path, found in _matching(
            root,
            "84/121123/84-121123-0000",
            r"(?P<speaker>\d+)/(?P<chapter>\d+)/(?P<id>(?P=speaker)[-_](?P=chapter)[-_][\d_]+)",
        )
    )


def libritts(root: Path, transcripts: Path | None = None) -> list[Utterance]:
    """LibriTTS: ``84/121123/84_121123_000007_000001`` beside ``*.normalized.txt``; LibriSpeech's readers."""
    return _libritts(root, transcripts, "libritts")


def libritts_r(root: Path, transcripts: Path | None = None) -> list[Utterance]:
    """LibriTTS-R, laid out as LibriTTS.

    Its makers list recordings whose restoration failed (``*_bad_sample_list.txt``): these have no text here,
    since they may say something else.
    """
    return _libritts(root, transcripts, "libritts-r")


def libri_clips(root: Path, transcripts: Path | None = None) -> list[Utterance]:
    """Loose clips of LibriSpeech's and LibriTTS' readers: ``1089/any-name``; speakers as in LibriSpeech."""
    return _sorted(
        _utterance(path, "libri-clips", found["speaker"], found["id"], people="librispeech")
        for path, found in _matching(root, "1089/any-name", r"(?P<speaker>\d+)/(?P<id>[^/]+)")
    )


def vctk(root: Path, transcripts: Path | None = None) -> list[Utterance]:
    """VCTK, also in part: ``wav48/p225/p225_001``, the trimmed FLAC release, and loose ``clips/p225/*``.

    The trimmed release holds most recordings twice. The first microphone is listed, or the second where the
    first is missing; speakers p280 and p315 have no second. Texts come from ``txt/``, which has none of p315.
    """
    recordings: dict[tuple[str, str], Path] = {}
    for path, found in _matching(
        root,
        "wav48/p225/p225_001",
        r"(?:wav48|wav48_silence_trimmed|clips)/(?P<speaker>[ps]\d+)/(?P<id>[^/]+)",
    ):
        key = found["speaker"], re.sub(r"_mic[12]$", "", found["id"])
        if key not in recordings or recordings[key].stem.endswith("_mic2"):
            recordings[key] = path
    utterances = []
    for (speaker, name), path in recordings.items():
        text_file = path.parents[2] / "txt" / speaker / f"{name}.txt"
        text = _read_text(text_file).strip() if text_file.is_file() else None
        utterances.append(_utterance(path, "vctk", speaker, name, text))
    return _sorted(utterances)


def speechocean762(root: Path, transcripts: Path | None = None) -> list[Utterance]:
    """speechocean762: what the Kaldi lists in ``train/`` and ``test/`` name, with human transcripts."""
    parts = [root / part for part in ("train", "test") if (root / part / "wav.scp").is_file()]
    if not parts:
        raise CorpusError(f"{root}: no train/wav.scp or test/wav.scp; give the folder that holds WAVE/")
    # The lists name .WAV files; whatever the suffix is here, the rest of the path is the same.
    files = {path.relative_to(root).with_suffix(""): path for path in _find(root)}
    utterances, missing = [], []
    for part in parts:
        speakers, texts = _keyed_lines(part / "utt2spk"), _keyed_lines(part / "text")
        for name, listed in _keyed_lines(part / "wav.scp").items():
            if name not in speakers:
                raise CorpusError(f"{part / 'utt2spk'}: no speaker for {name}; unpack the corpus again")
            path = files.get(Path(listed).with_suffix(""))
            if path is None:
                missing.append(listed)
            else:
                utterances.append(_utterance(path, "speechocean762", speakers[name], name, texts.get(name)))
    if not utterances:
        raise CorpusError(f"{root}: none of the {len(missing)} listed files is there; unpack WAVE/ again")
    _warn_of_missing(root, missing)
    return _sorted(utterances)


def cmu_arctic(root: Path, transcripts: Path | None = None) -> list[Utterance]:
    """CMU ARCTIC: ``cmu_us_bdl_arctic/wav/arctic_a0001``, texts in ``etc/txt.done.data``; parallel.

    The speaker's name may stand in place of ``arctic`` in the file name; the id is the prompt's either way.
    """
    texts = _transcripts(transcripts, "cmu-arctic")
    for path in _lists(root, "txt.done.data"):
        texts.update(_festival_prompts(path))
    return _sorted(
        _utterance(path, "cmu-arctic", found["speaker"], prompt, texts.get(prompt))
        for path, found in _matching(
            root,
            "cmu_us_bdl_arctic/wav/arctic_a0001",
            r"cmu_us_(?P<speaker>\w+?)_arctic/wav/[a-z]+_(?P<prompt>[ab]\d{4})",
        )
        for prompt in [f"arctic_{found['prompt']}"]
    )


def ljspeech(root: Path, transcripts: Path | None = None) -> list[Utterance]:
    """LJSpeech: ``wavs/LJ001-0001``, texts in ``metadata.csv``; one speaker."""
    texts = _transcripts(transcripts, "ljspeech") | _metadata(root)
    return _sorted(
        _utterance(path, "ljspeech", "lj", found["id"], texts.get(found["id"]))
        for path, found in _matching(root, "wavs/LJ001-0001", r"(?P<id>LJ\d{3}-\d{4})")
    )


def aishell3(root: Path, transcripts: Path | None = None) -> list[Utterance]:
    """AISHELL-3, Mandarin: ``train/wav/SSB0005/SSB00050001``; texts in ``content.txt``, less pinyin."""
    texts = _transcripts(transcripts, "aishell3")
    for path in _lists(root, "content.txt"):
        for name, line in _keyed_lines(path).items():
            texts[Path(name).stem] = "".join(line.split()[::2])  # character, pinyin, character, pinyin
    return _sorted(
        _utterance(path, "aishell3", found["speaker"], found["id"], texts.get(found["id"]), "zh")
        for path, found in _matching(
            root, "SSB0005/SSB00050001", r"(?P<speaker>SSB\d{4})/(?P<id>(?P=speaker)\d{4})"
        )
    )


def commonvoice(root: Path, transcripts: Path | None = None) -> list[Utterance]:
    """Common Voice, any release and languages: ``en/clips/*`` as ``en/validated.tsv`` lists them.

    Where there is no such list, those of train, dev and test are read. The speaker is the client id, which
    stands for a browser or an account: one person can have several, and several people one.
    """
    lists = _lists(root, "validated.tsv")
    if not lists:
        parts = ("train.tsv", "dev.tsv", "test.tsv")
        lists = [path for path in _lists(root, "*.tsv") if path.name in parts]
    utterances, missing = [], []
    for path in lists:
        clips, language = path.parent / "clips", path.parent.name
        files = {clip.stem: clip for clip in find_audio(clips)} if clips.is_dir() else {}
        for row in read_table(path, ("client_id", "path", "sentence")):
            clip = files.get(Path(row["path"]).stem)
            if clip is None:
                missing.append(f"{language}/clips/{row['path']}")
            else:
                utterances.append(
                    _utterance(
                        clip,
                        "commonvoice",
                        row["client_id"][:16],  # of 128 hexadecimal digits
                        clip.stem,
                        row["sentence"],
                        language.partition("-")[0],
                    )
                )
    if not utterances:
        raise CorpusError(
            f"{root}: no validated.tsv that lists files in clips/; give the folder of a language or a release"
        )
    _warn_of_missing(root, missing)
    return _sorted(utterances)


def asterisk(root: Path, transcripts: Path | None = None) -> list[Utterance]:
    """Asterisk's telephone prompts: a folder for each voice, ``en_US_f_NAME/vm-intro``.

    Ids are shared across languages. English and Spanish are one speaker, ``asterisk/en-es``.
    """
    utterances = []
    for path, found in _matching(
        root, "en_US_f_NAME/vm-intro", rf"(?P<voice>{'|'.join(ASTERISK_VOICES)})\w*/(?P<id>.+)"
    ):
        speaker, language = ASTERISK_VOICES[found["voice"]]
        utterances.append(_utterance(path, "asterisk", speaker, found["id"], language=language))
    return _sorted(utterances)


def festvox_ru(root: Path, transcripts: Path | None = None) -> list[Utterance]:
    """Festvox' Russian voice: ``wav/ru_0001``, texts in ``etc/txt.done.data``; one speaker.

    A ``+`` in the text marks the stressed vowel that follows it.
    """
    texts = _transcripts(transcripts, "festvox-ru")
    for path in _lists(root, "txt.done.data"):
        texts.update(_festival_prompts(path))
    return _sorted(
        _utterance(path, "festvox-ru", "ru", found["id"], texts.get(found["id"]), language="ru")
        for path, found in _matching(root, "wav/ru_0001", r"wav/(?P<id>ru_\d+)")
    )


def speech_to_intent(root: Path, transcripts: Path | None = None) -> list[Utterance]:
    """The speech-to-intent benchmark: ``clean/*``, over fifty speakers, whose names are not given."""
    texts = _transcripts(transcripts, "speech-to-intent")
    return _sorted(
        _utterance(path, "speech-to-intent", found["id"], found["id"], texts.get(found["id"]), labelled=False)
        for path, found in _matching(root, "clean/any-name", r"clean/(?P<id>[^/]+)")
    )


def mls_clips(root: Path, transcripts: Path | None = None) -> list[Utterance]:
    """Loose clips of Multilingual LibriSpeech: ``french_123/any-name``."""
    return _sorted(
        _utterance(
            path, "mls-clips", found["speaker"], found["id"], language=_MLS_LANGUAGES[found["language"]]
        )
        for path, found in _matching(
            root,
            "french_123/any-name",
            rf"(?P<speaker>(?P<language>{'|'.join(_MLS_LANGUAGES)})_\d+)/(?P<id>[^/]+)",
        )
    )


def dspspeech20(root: Path, transcripts: Path | None = None) -> list[Utterance]:
    """DSPSpeech-20: ``SPEAKER/SPEAKER-WORD-ROUND``, twenty Chinese and English words by Chinese students."""
    utterances = []
    for path, found in _matching(
        root, "NAME/NAME-00-01", r"(?P<speaker>[^/]+)/(?P<id>(?P=speaker)-(?P<word>[01]\d)-\d+)"
    ):
        word = _DSPSPEECH_WORDS[int(found["word"])]
        language = "en" if word.isascii() else "zh"
        utterances.append(_utterance(path, "dspspeech20", found["speaker"], found["id"], word, language))
    return _sorted(utterances)


def alphanumeric(root: Path, transcripts: Path | None = None) -> list[Utterance]:
    """The alphanumeric audio dataset, a folder for each speaker: ``an01/an01-numbers-3500``."""
    return _sorted(
        _utterance(path, "alphanumeric", found["speaker"], found["id"])
        for path, found in _matching(root, "an01/any-name", r"(?P<speaker>an\d+)/(?P<id>[^/]+)")
    )


def kathleen(root: Path, transcripts: Path | None = None) -> list[Utterance]:
    """The Rhasspy voice kathleen: US English, one speaker; texts in ``metadata.csv`` if there."""
    return _rhasspy(root, transcripts, "kathleen", "en")


def nathalie(root: Path, transcripts: Path | None = None) -> list[Utterance]:
    """The Rhasspy voice nathalie: Dutch, one speaker; texts in ``metadata.csv`` if there."""
    return _rhasspy(root, transcripts, "nathalie", "nl")


def kerstin(root: Path, transcripts: Path | None = None) -> list[Utterance]:
    """The Rhasspy voice kerstin: German, one speaker; texts in ``metadata.csv`` if there."""
    return _rhasspy(root, transcripts, "kerstin", "de")


def esc10(root: Path, transcripts: Path | None = None) -> list[Utterance]:
    """ESC-10, everyday sounds: ``001 - Dog bark/any-name``. Never speech, so not among READERS.

    The class of sound stands where other readers put the speaker, and nothing is labelled.
    """
    return _sorted(
        _utterance(path, "esc10", found["class"].lower(), found["id"], None, _NO_LANGUAGE, labelled=False)
        for path, found in _matching(
            root, "001 - Dog bark/any-name", r"\d{3} - (?P<class>[^/]+)/(?P<id>[^/]+)"
        )
    )


def folder_per_speaker(root: Path, transcripts: Path | None = None) -> list[Utterance]:
    """A user's recordings, any files in a folder for each speaker: ``anna/monday/1``.

    The folder's name is the corpus' name. Texts are looked up by file name in ``NAME.tsv``.
    """
    corpus = root.resolve().name
    texts = _transcripts(transcripts, corpus)
    utterances = []
    for path in _find(root):
        speaker, *rest = path.relative_to(root).with_suffix("").parts
        if not rest:
            raise CorpusError(
                f"{path}: belongs to no speaker; put every file into its speaker's folder,"
                " or say how speakers are named: none, a pattern, or a table"
            )
        utterances.append(_utterance(path, corpus, speaker, "/".join(rest), texts.get(rest[-1])))
    return _sorted(utterances)


def folder(root: Path, transcripts: Path | None = None) -> list[Utterance]:
    """A user's recordings without speakers: each audio file below ``root`` is a speaker."""
    corpus = root.resolve().name
    texts = _transcripts(transcripts, corpus)
    return _sorted(
        _utterance(path, corpus, name, name, texts.get(path.stem), labelled=False)
        for path in _find(root)
        for name in [path.relative_to(root).with_suffix("").as_posix()]
    )


def by_pattern(root: Path, pattern: str, transcripts: Path | None = None) -> list[Utterance]:
    """A user's recordings, whose paths name the speaker: ``session3_anna_0001``.

    pattern: a regular expression with a group ``speaker``, such as ``_(?P<speaker>[a-z]+)_``, which is
    searched for in the path below ``root``, without suffix. Raises CorpusError for files that do not match.
    """
    try:
        regex = re.compile(pattern)
    except re.error as error:
        raise CorpusError(f"{pattern}: is no regular expression ({error})") from None
    if "speaker" not in regex.groupindex:
        raise CorpusError(f"{pattern}: names no speaker; write (?P<speaker>...) around that part of the path")
    corpus = root.resolve().name
    texts = _transcripts(transcripts, corpus)
    utterances, others = [], []
    for path in _find(root):
        name = path.relative_to(root).with_suffix("").as_posix()
        if (found := regex.search(name)) and found["speaker"]:
            utterances.append(_utterance(path, corpus, found["speaker"], name, texts.get(path.stem)))
        else:
            others.append(path)
    if others:
        raise CorpusError(
            f"{others[0]}: {len(others)} of {len(others) + len(utterances)} files do not match {pattern};"
            " change the pattern, or move these files elsewhere"
        )
    return _sorted(utterances)


def by_table(root: Path, table: Path, transcripts: Path | None = None) -> list[Utterance]:
    """A user's recordings as a table lists them, with commas (.csv) or tabs (.tsv) and a header.

    Columns: ``file`` below ``root``, ``speaker``, and perhaps ``text`` and ``language`` (en where empty).
    Warns of listed files that are missing and of files that are not listed. Raises CorpusError.
    """
    corpus = root.resolve().name
    files, texts = {path.relative_to(root): path for path in _find(root)}, _transcripts(transcripts, corpus)
    utterances, missing = [], []
    for row in read_table(table, ("file", "speaker")):
        path = files.pop(Path(row["file"]), None)
        if path is None:
            missing.append(row["file"])
            continue
        name = Path(row["file"]).with_suffix("").as_posix()
        text = row.get("text") or texts.get(path.stem)
        utterances.append(_utterance(path, corpus, row["speaker"], name, text, row.get("language") or "en"))
    if not utterances:
        raise CorpusError(f"{table}: lists no file that is in {root}; write paths below that folder")
    _warn_of_missing(root, missing)
    if files:
        warnings.warn(f"{table}: {len(files)} files are not in it, such as {min(files)}", stacklevel=2)
    return _sorted(utterances)


READERS: dict[str, Reader] = {
    "aishell3": aishell3,
    "alphanumeric": alphanumeric,
    "asterisk": asterisk,
    "cmu-arctic": cmu_arctic,
    "commonvoice": commonvoice,
    "dspspeech20": dspspeech20,
    "festvox-ru": festvox_ru,
    "kathleen": kathleen,
    "kerstin": kerstin,
    "libri-clips": libri_clips,
    "librispeech": librispeech,
    "libritts": libritts,
    "libritts-r": libritts_r,
    "ljspeech": ljspeech,
    "mls-clips": mls_clips,
    "nathalie": nathalie,
    "speech-to-intent": speech_to_intent,
    "speechocean762": speechocean762,
    "vcc2016": vcc2016,
    "vcc2018": vcc2018,
    "vctk": vctk,
    "vctk-sample": vctk,
}
"""The reader of each speech corpus by the name of its folder."""

OFFICIAL_FOLDERS = {
    "VCTK-Corpus": "vctk",
    "VCTK-Corpus-0.92": "vctk",
    "LibriSpeech": "librispeech",
    "LibriTTS": "libritts",
    "LibriTTS_R": "libritts-r",
    "LJSpeech-1.1": "ljspeech",
    "data_aishell3": "aishell3",
}
"""Folders that the archives of corpora unpack to -> the reader. Those of Common Voice are cv-corpus-*."""


def reader_of(folder: Path) -> Reader | None:
    """The reader of the corpus in a folder of this name, or in one of the folder above it, if any."""
    inside = folder.resolve()
    for name in (inside.name, inside.parent.name):
        name = "commonvoice" if name.startswith("cv-corpus-") else OFFICIAL_FOLDERS.get(name, name)
        if name in READERS:
            return READERS[name]
    return None


def read_corpora(
    root: Path, names: Iterable[str] | None = None, transcripts: Path | None = None
) -> list[Utterance]:
    """Read the corpora in ``root``, each in a folder named as in READERS.

    ``names`` selects some of them; None reads all that are there. ``transcripts`` is a folder of
    ``NAME.tsv`` files for texts that a corpus does not contain. The order is always the same.
    Raises CorpusError when a named corpus is unknown or missing, or when there is none at all.
    """
    if names is None:
        names = [name for name in READERS if (root / name).is_dir()]
        if not names:
            raise CorpusError(f"{root}: holds none of the corpora {', '.join(READERS)}")
    utterances: list[Utterance] = []
    for name in sorted(set(names)):
        if name not in READERS:
            raise CorpusError(f"{name}: no such corpus; there are {', '.join(READERS)}")
        utterances += READERS[name](root / name, transcripts)
    return _sorted(utterances)


def read_speech(
    root: Path, corpus: str | None = None, transcripts: Path | None = None, speakers: str | None = None
) -> list[Utterance]:
    """Read the speech in ``root``, by its layout.

    speakers: how the speakers of a user's own recordings are named: "folder", "none", a pattern with
    ``(?P<speaker>...)`` (`by_pattern`), or a table .csv or .tsv (`by_table`). Without it, the folder is read
    as the corpus named by ``corpus``, else by the folder itself or the folder above it, else all corpora that
    lie in it by name, else a folder for each speaker. Raises CorpusError.
    """
    if corpus is not None and corpus not in READERS:
        raise CorpusError(f"{corpus}: no such corpus; there are {', '.join(READERS)}")
    if speakers == "none":
        return folder(root, transcripts)
    if speakers == "folder":
        return folder_per_speaker(root, transcripts)
    if speakers and speakers.lower().endswith((".csv", ".tsv")):
        return by_table(root, Path(speakers), transcripts)
    if speakers:
        return by_pattern(root, speakers, transcripts)
    if reader := READERS[corpus] if corpus else reader_of(root):
        return reader(root, transcripts)
    if any((root / name).is_dir() for name in READERS):
        return read_corpora(root, transcripts=transcripts)
    return folder_per_speaker(root, transcripts)


def read_transcripts(path: Path) -> dict[str, str]:
    """Read texts by id from a table with tabs and a header: ``id text``, and perhaps a confidence.

    Doubtful automatic transcripts are skipped: those with a mean log-probability (``logprob``)
    below -0.6, and those that fewer than two of the speakers' transcripts share (``agree``).
    Raises CorpusError when the file cannot be read as such a table.
    """
    header, *lines = _read_text(path).splitlines() or [""]
    columns = header.split("\t")
    least = {"logprob": -0.6, "agree": 2.0}
    trust = columns[2] if len(columns) > 2 else None
    if columns[:2] != ["id", "text"] or (trust is not None and trust not in least):
        raise CorpusError(f"{path}: the first line must read id, text and maybe logprob or agree, with tabs")
    texts = {}
    for number, line in enumerate(lines, start=2):
        try:
            name, text, *rest = line.split("\t")
            if trust is None or float(rest[0]) >= least[trust]:
                texts[name] = text
        except (ValueError, IndexError):
            raise CorpusError(f"{path}: line {number} does not have the columns of the header") from None
    return texts


def _utterance(
    path: Path,
    corpus: str,
    speaker: str,
    name: str,
    text: str | None = None,
    language: str = "en",
    *,
    labelled: bool = True,
    people: str | None = None,
) -> Utterance:
    """Make an utterance, with the speaker's full name and the held-out mark."""
    speaker = f"{people or corpus}/{speaker}"
    return Utterance(
        path=path,
        speaker=speaker,
        id=name,
        corpus=corpus,
        text=text or None,
        language=language,
        labelled=labelled,
        held_out=HELD_OUT_SPEAKERS.get(speaker),
    )


def _sorted(utterances: Iterable[Utterance]) -> list[Utterance]:
    # The full path comes last, so that the order is the same wherever the corpora lie.
    return sorted(utterances, key=lambda each: (each.corpus, each.speaker, each.id, each.language, each.path))


def _libritts(root: Path, transcripts: Path | None, corpus: str) -> list[Utterance]:
    texts = _transcripts(transcripts, corpus)
    failed = {
        Path(line).stem
        for path in _lists(root, "*_bad_sample_list.txt")
        for line in _read_text(path).splitlines()
    }
    utterances = []
    for path, found in _matching(
        root,
        "84/121123/84_121123_000007_000001",
        r"(?P<speaker>\d+)/(?P<chapter>\d+)/(?P<id>(?P=speaker)_(?P=chapter)_[\d_]+)",
    ):
        text_file = path.with_name(f"{found['id']}.normalized.txt")
        text = _read_text(text_file).strip() if text_file.is_file() else texts.get(found["id"])
        text = None if found["id"] in failed else text
        utterances.append(_utterance(path, corpus, found["speaker"], found["id"], text, people="librispeech"))
    return _sorted(utterances)


def _rhasspy(root: Path, transcripts: Path | None, name: str, language: str) -> list[Utterance]:
    texts = _transcripts(transcripts, name) | _metadata(root)
    return _sorted(
        _utterance(path, name, name, path.stem, texts.get(path.stem), language) for path in _find(root)
    )


def _find(root: Path) -> list[Path]:
    """All audio below the folder of a corpus; CorpusError if there is none."""
    if not root.is_dir():
        raise CorpusError(f"{root}: no such folder")
    files = find_audio(root)
    if not files:
        raise CorpusError(f"{root}: no audio files here ({', '.join(sorted(AUDIO_SUFFIXES))})")
    return files


def _matching(root: Path, example: str, pattern: str) -> Iterator[tuple[Path, dict[str, str]]]:
    """Audio files whose path, less the suffix, ends in the pattern, each with the pattern's groups."""
    regex = re.compile(rf"/{pattern}$")
    count = 0
    for path in _find(root):
        found = regex.search(path.absolute().with_suffix("").as_posix())
        if found:
            count += 1
            yield path, found.groupdict()
    if not count:
        raise CorpusError(f"{root}: no audio file lies as in {example}; is this the folder of that corpus?")


def _warn_of_missing(root: Path, missing: list[str]) -> None:
    if missing:
        warnings.warn(f"{root}: {len(missing)} listed files are missing, such as {missing[0]}", stacklevel=3)


def _lists(root: Path, pattern: str) -> list[Path]:
    """The files of that name below the root, sorted, without hidden files and folders."""
    found = root.rglob(pattern)
    return sorted(p for p in found if not any(part.startswith(".") for part in p.relative_to(root).parts))


def read_table(table: Path, needed: tuple[str, ...]) -> list[dict[str, str]]:
    """The rows of a table with a header: tabs and no quotes (.tsv), or commas (.csv). Raises CorpusError."""
    lines = _read_text(table).splitlines()
    tabs = table.suffix.lower() == ".tsv"
    parsed = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE) if tabs else csv.reader(lines)
    header, *rows = list(parsed) or [[]]
    if absent := [name for name in needed if name not in header]:
        raise CorpusError(f"{table}: has no column {absent[0]}; the first line must name {', '.join(needed)}")
    for number, row in enumerate(rows, start=2):
        if row and len(row) != len(header):
            raise CorpusError(f"{table}: line {number} does not have the columns of the header")
    return [dict(zip(header, row, strict=True)) for row in rows if row]


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"{path}: cannot be read as UTF-8 text ({error})") from None


def _transcripts(transcripts: Path | None, corpus: str) -> dict[str, str]:
    """The texts in the transcripts folder; none if there is no file for this corpus."""
    path = transcripts / f"{corpus}.tsv" if transcripts else None
    return read_transcripts(path) if path and path.is_file() else {}


def _keyed_lines(path: Path) -> dict[str, str]:
    """Lines of a key, white space and a value, as in Kaldi's lists."""
    pairs = (line.split(maxsplit=1) for line in _read_text(path).splitlines() if line.strip())
    return {pair[0]: pair[1].strip() if len(pair) > 1 else "" for pair in pairs}


def _festival_prompts(path: Path) -> dict[str, str]:
    """Lines of Festival's prompt lists: ``( arctic_a0001 "Author of the danger trail." )``."""
    prompts = re.findall(r'^\(\s*(\S+)\s+"(.*)"\s*\)\s*$', _read_text(path), flags=re.MULTILINE)
    return {name: text.replace(r"\"", '"') for name, text in prompts}


def _metadata(root: Path) -> dict[str, str]:
    """Lines of ``id|text`` or ``id|text|normalised text`` in every metadata.csv; the last field counts."""
    texts = {}
    for path in _lists(root, "metadata.csv"):
        rows = (line.split("|") for line in _read_text(path).splitlines())
        texts.update({row[0]: row[-1] for row in rows if len(row) > 1})
    return texts
