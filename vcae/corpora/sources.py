"""Where corpora come from: official pages, licences, and archives to download.

Checksums are those that torchaudio publishes (`torchaudio.datasets`). An archive without one is checked by
the checksums inside of it, when it is unpacked.
"""

import bz2
import gzip
import hashlib
import shutil
import tarfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vcae.corpora.utterance import CorpusError
from vcae.files import OutputError
from vcae.progress import Track, untracked

_DATASHARE = "https://datashare.ed.ac.uk/bitstream/handle/10283"
_OPENSLR = "https://www.openslr.org/resources"
_FESTVOX = "http://festvox.org/cmu_arctic/packed"


@dataclass(frozen=True)
class Archive:
    """A file to download."""

    url: str
    sha256: str | None = None
    """None: its publisher gives none."""

    @property
    def name(self) -> str:
        """File name."""
        return self.url.rpartition("/")[2]


@dataclass(frozen=True)
class Source:
    """Where a corpus comes from."""

    title: str
    page: str
    """The official page."""
    licence: str
    expansion: float = 1.0
    """Bytes unpacked for each byte of the archives, at most."""
    parts: dict[str, Archive] = field(default_factory=dict)
    """Archives by part; none where the publisher wants its terms to be accepted first."""


def _parts(folder: str, checksums: dict[str, str | None], suffix: str = ".tar.gz") -> dict[str, Archive]:
    return {part: Archive(f"{folder}/{part}{suffix}", sha256) for part, sha256 in checksums.items()}


_LIBRISPEECH = {
    "dev-clean": "76f87d090650617fca0cac8f88b9416e0ebf80350acb97b343a85fa903728ab3",
    "dev-other": "12661c48e8c3fe1de2c1caa4c3e135193bfb1811584f11f569dd12645aa84365",
    "test-clean": "39fde525e59672dc6d1551919b1478f724438a95aa55f874b576be21967e6c23",
    "test-other": "d09c181bba5cf717b3dee7d4d592af11a3ee3a09e08ae025c5506f6ebe961c29",
    "train-clean-100": "d4ddd1d5a6ab303066f14971d768ee43278a5f2a0aa43dc716b0e64ecbbbf6e2",
    "train-clean-360": "146a56496217e96c14334a160df97fffedd6e0a04e66b9c5af0d40be3c792ecf",
    "train-other-500": "ddb22f27f96ec163645d53215559df6aa36515f26e01dd70798188350adcb6d2",
}
_LIBRITTS = {
    "dev-clean": "da0864e1bd26debed35da8a869dd5c04dfc27682921936de7cff9c8a254dbe1a",
    "dev-other": "d413eda26f3a152ac7c9cf3658ef85504dfb1b625296e5fa83727f5186cca79c",
    "test-clean": "234ea5b25859102a87024a4b9b86641f5b5aaaf1197335c95090cde04fe9a4f5",
    "test-other": "33a5342094f3bba7ccc2e0500b9e72d558f72eb99328ac8debe1d9080402f10d",
    "train-clean-100": "c5608bf1ef74bb621935382b8399c5cdd51cd3ee47cec51f00f885a64c6c7f6b",
    "train-clean-360": "ce7cff44dcac46009d18379f37ef36551123a1dc4e5c8e4eb73ae57260de4886",
    "train-other-500": "e35f7e34deeb2e2bdfe4403d88c8fdd5fbf64865cae41f027a185a6965f0a5df",
}
_ARCTIC = {
    "aew": "645cb33c0f0b2ce41384fdd8d3db2c3f5fc15c1e688baeb74d2e08cab18ab406",
    "ahw": "024664adeb892809d646a3efd043625b46b5bfa3e6189b3500b2d0d59dfab06c",
    "aup": "2c55bc3050caa996758869126ad10cf42e1441212111db034b3a45189c18b6fc",
    "awb": "d74a950c9739a65f7bfc4dfa6187f2730fa03de5b8eb3f2da97a51b74df64d3c",
    "axb": "dd65c3d2907d1ee52f86e44f578319159e60f4bf722a9142be01161d84e330ff",
    "bdl": "26b91aaf48b2799b2956792b4632c2f926cd0542f402b5452d5adecb60942904",
    "clb": "3f16dc3f3b97955ea22623efb33b444341013fc660677b2e170efdcc959fa7c6",
    "eey": "8a0ee4e5acbd4b2f61a4fb947c1730ab3adcc9dc50b195981d99391d29928e8a",
    "fem": "3fcff629412b57233589cdb058f730594a62c4f3a75c20de14afe06621ef45e2",
    "gka": "dc82e7967cbd5eddbed33074b0699128dbd4482b41711916d58103707e38c67f",
    "jmk": "3a37c0e1dfc91e734fdbc88b562d9e2ebca621772402cdc693bbc9b09b211d73",
    "ksp": "8029cafce8296f9bed3022c44ef1e7953332b6bf6943c14b929f468122532717",
    "ljm": "b23993765cbf2b9e7bbc3c85b6c56eaf292ac81ee4bb887b638a24d104f921a0",
    "lnh": "4faf34d71aa7112813252fb20c5433e2fdd9a9de55a00701ffcbf05f24a5991a",
    "rms": "c6dc11235629c58441c071a7ba8a2d067903dfefbaabc4056d87da35b72ecda4",
    "rxr": "1fa4271c393e5998d200e56c102ff46fcfea169aaa2148ad9e9469616fbfdd9b",
    "slp": "54345ed55e45c23d419e9a823eef427f1cc93c83a710735ec667d068c916abf1",
    "slt": "7c173297916acf3cc7fcab2713be4c60b27312316765a90934651d367226b4ea",
}

SOURCES = {
    "vctk": Source(
        "VCTK 0.92",
        "https://datashare.ed.ac.uk/handle/10283/3443",
        "CC BY 4.0",
        1.1,
        {
            "all": Archive(
                f"{_DATASHARE}/3443/VCTK-Corpus-0.92.zip",
                "f96258be9fdc2cbff6559541aae7ea4f59df3fcaf5cf963aae5ca647357e359c",
            )
        },
    ),
    "librispeech": Source(
        "LibriSpeech",
        "https://www.openslr.org/12",
        "CC BY 4.0",
        1.1,
        _parts(f"{_OPENSLR}/12", {**_LIBRISPEECH}),
    ),
    "libritts": Source(
        "LibriTTS", "https://www.openslr.org/60", "CC BY 4.0", 1.6, _parts(f"{_OPENSLR}/60", {**_LIBRITTS})
    ),
    "libritts-r": Source(
        "LibriTTS-R",
        "https://www.openslr.org/141",
        "CC BY 4.0",
        1.6,
        {part: Archive(f"{_OPENSLR}/141/{part.replace('-', '_')}.tar.gz") for part in _LIBRITTS}
        | _parts(f"{_OPENSLR}/141", {"libritts_r_failed_speech_restoration_examples": None}),
    ),
    "ljspeech": Source(
        "LJSpeech 1.1",
        "https://keithito.com/LJ-Speech-Dataset",
        "public domain",
        1.6,
        {
            "all": Archive(
                "https://data.keithito.com/data/speech/LJSpeech-1.1.tar.bz2",
                "be1a30453f28eb8dd26af4101ae40cbf2c50413b1bb21936cbcdc6fae3de8aa5",
            )
        },
    ),
    "cmu-arctic": Source(
        "CMU ARCTIC",
        "http://festvox.org/cmu_arctic",
        "free for any use, with its notice (BSD-like)",
        2.0,
        {
            speaker: Archive(f"{_FESTVOX}/cmu_us_{speaker}_arctic.tar.bz2", sha256)
            for speaker, sha256 in _ARCTIC.items()
        },
    ),
    "vcc2016": Source(
        "Voice Conversion Challenge 2016",
        "https://datashare.ed.ac.uk/handle/10283/2211",
        "CC BY 4.0",
        1.6,
        _parts(f"{_DATASHARE}/2211", {"vcc2016_training": None, "evaluation_all": None}, ".zip"),
    ),
    "vcc2018": Source(
        "Voice Conversion Challenge 2018",
        "https://datashare.ed.ac.uk/handle/10283/3061",
        "CC BY 4.0",
        1.6,
        {
            part: Archive(f"{_DATASHARE}/3061/vcc2018_database_{part}.zip")
            for part in ("training", "evaluation", "reference")
        },
    ),
    "speechocean762": Source(
        "speechocean762",
        "https://www.openslr.org/101",
        "free for any use",
        1.6,
        {"all": Archive(f"{_OPENSLR}/101/speechocean762.tar.gz")},
    ),
    "aishell3": Source(
        "AISHELL-3",
        "https://www.openslr.org/93",
        "Apache-2.0",
        1.6,
        {"all": Archive(f"{_OPENSLR}/93/data_aishell3.tgz")},
    ),
    "commonvoice": Source("Common Voice", "https://commonvoice.mozilla.org/datasets", "CC0"),
}
"""Source of each of the public corpora that a reader's table has, by its name there."""


@dataclass(frozen=True)
class Plan:
    """What a download will do."""

    folder: Path
    archives: list[Archive]
    """Those that are not unpacked yet."""
    sizes: list[int]
    """Bytes of each, as the server says."""
    needed: int
    """Bytes of disk: for all that is unpacked and for the largest archive beside it."""
    free: int
    """Bytes of disk that are free in the folder."""


def plan_download(name: str, folder: Path, parts: Sequence[str] = ()) -> Plan:
    """Ask for the sizes of a corpus' archives. folder: for the corpus, with the archives' folders in it.

    Raises CorpusError for an unknown corpus or part, for one whose terms must be accepted first, and where a
    server does not answer; OutputError where the disk is too small.
    """
    if name not in SOURCES:
        raise CorpusError(f"{name}: cannot be downloaded; there are {', '.join(SOURCES)}")
    source = SOURCES[name]
    if not source.parts:
        raise CorpusError(f"{name}: accept its terms at {source.page}, then unpack the archive into {folder}")
    if unknown := [part for part in parts if part not in source.parts]:
        raise CorpusError(f"{name}: has no part {unknown[0]}; there are {', '.join(source.parts)}")
    chosen = [source.parts[part] for part in parts or source.parts]
    archives = [archive for archive in chosen if not _done(folder, archive).exists()]
    sizes = [_size(archive.url) for archive in archives]
    # An archive is deleted once it is unpacked, and what is there of one is not downloaded again.
    there = sum((folder / a.name).stat().st_size for a in archives if (folder / a.name).is_file())
    needed = round(sum(sizes) * source.expansion) + max(sizes, default=0) - there
    existing = next(each for each in (folder, *folder.resolve().parents) if each.is_dir())
    plan = Plan(folder, archives, sizes, max(needed, 0), shutil.disk_usage(existing).free)
    if plan.needed > plan.free:
        raise OutputError(
            f"{folder}: {name} needs {plan.needed / 1e9:.1f} GB, and {plan.free / 1e9:.1f} GB are free;"
            " make room, or name fewer parts"
        )
    return plan


def download(plan: Plan, track: Track = untracked) -> None:
    """Download, verify and unpack the archives of a plan, one after the other. Needs the extra `corpora`.

    A download that was interrupted continues where it stopped. Raises CorpusError where a server does not
    answer or an archive is damaged; OutputError where the folder cannot be written.
    """
    try:
        plan.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{plan.folder}: cannot be created ({error.strerror}); choose another") from None
    sizes = dict(zip(plan.archives, plan.sizes, strict=True))
    for archive in track(plan.archives, "Downloading"):
        path = plan.folder / archive.name
        _fetch(archive, path, sizes[archive])
        _unpack(path, plan.folder)
        _done(plan.folder, archive).touch()
        path.unlink()


def _fetch(archive: Archive, path: Path, size: int) -> None:
    """Download an archive, or the rest of it, and verify it; once more from the start if it is wrong."""
    try:
        from lhotse.utils import resumable_download
    except ModuleNotFoundError:
        raise CorpusError("lhotse is not installed; pip install 'vcae[corpora]'") from None
    for _ in range(2):
        try:
            resumable_download(archive.url, path)
        except urllib.error.URLError as error:
            raise CorpusError(f"{archive.url}: {error.reason}; try again later, it resumes") from None
        except OSError as error:
            raise OutputError(
                f"{path}: the download stopped ({error.strerror or error}); make room or check the network,"
                " then run the same command, which resumes"
            ) from None
        there = path.stat().st_size
        if there < size:  # a connection that ends early is no error of urllib's
            raise CorpusError(
                f"{archive.url}: the connection ended after {there} of {size} bytes; run the same command"
                " again, it resumes"
            )
        if there == size and archive.sha256 in (None, _sha256(path)):
            return
        path.unlink()  # such as that of a server that cannot resume and begins again: two beginnings
    raise CorpusError(f"{archive.url}: is not the file that was published (SHA-256 differs); try again later")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unpack(path: Path, folder: Path) -> None:
    """Unpack a zip or tar, whose checksums are verified on the way. Nothing is written outside the folder."""
    try:
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as zipped:
                zipped.extractall(folder)  # noqa: S202 -- zipfile keeps members inside of the folder
            return
        with (bz2.open if path.suffix == ".bz2" else gzip.open)(path) as file:
            with tarfile.open(fileobj=file, mode="r|") as tar:
                tar.extractall(folder, filter="data")
            while file.read(2**20):  # the checksum comes after the last member
                pass
    except OSError as error:
        if error.errno is not None:  # neither gzip's nor bz2's
            raise OutputError(
                f"{path}: cannot be unpacked ({error.strerror}); make room, then run the same command"
            ) from None
        raise _damaged(path, error) from None
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError) as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> CorpusError:
    path.unlink()
    return CorpusError(f"{path}: is damaged ({error}) and was deleted; run the same command again")


def _done(folder: Path, archive: Archive) -> Path:
    """The file that says that an archive is unpacked."""
    return folder / f".{archive.name}.unpacked"


def _size(url: str) -> int:
    """Bytes of a file on a server."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=30) as answer:  # noqa: S310
            return int(answer.headers["Content-Length"])
    except (OSError, TypeError, ValueError) as error:
        reason = getattr(error, "reason", None) or "its size is not known"
        raise CorpusError(f"{url}: cannot be reached ({reason}); check the network, or try later") from None
