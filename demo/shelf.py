"""What visitors made, for an hour, behind addresses that nobody can guess: to be played and downloaded."""

import re
import secrets
import shutil
import threading
import time
import zipfile
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from vcae import Audio, audio

from . import formats

KEPT = 3600.0  # seconds
SWEPT = 60.0  # seconds between two looks for what is too old
LONGEST_NAME = 80


@dataclass(frozen=True)
class Kept:
    """A sound on the shelf. Its address, relative to the page, takes any suffix of `formats.RATES`."""

    address: str
    """Without a suffix."""
    name: str
    """Of the file, without a suffix."""
    path: Path
    """Of the WAV file on the server."""


class Shelf:
    """Sounds and archives in a new folder, for KEPT seconds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir()
        self.routes = [Route("/kept/{token}/{name}", self.fetch)]
        self._rates: dict[str, int] = {}
        threading.Thread(target=self._sweep, daemon=True, name="shelf").start()

    def keep(self, sound: Audio, name: str, rate: int | None = None) -> Kept:
        """Keep a sound. Downloads have the sample rate `rate` in Hz, or its own."""
        kept = self.place(name)
        sound.write(kept.path)
        self._rates[kept.path.parent.name] = rate or sound.sample_rate
        return kept

    def place(self, name: str) -> Kept:
        """A new folder for files of this name."""
        name = file_name(name)
        token = secrets.token_urlsafe()
        (self.folder / token).mkdir()
        return Kept(f"kept/{token}/{quote(name)}", name, self.folder / token / f"{name}.wav")

    def zip(self, files: list[Path], name: str) -> Path:
        """A zip file of files, on the shelf. Equal names get numbers."""
        out = self.place(name).path.with_suffix(".zip")
        used: set[str] = set()
        with zipfile.ZipFile(out, "w") as archive:
            for file in files:
                entry, number = file.name, 1
                while entry in used:
                    number += 1
                    entry = f"{file.stem} {number}{file.suffix}"
                used.add(entry)
                archive.write(file, entry)
        return out

    async def fetch(self, request: Request) -> Response:
        """Send a file: as it is for playing, or with `?download` in the format and at the rate asked for."""
        token, name = request.path_params["token"], request.path_params["name"]
        folder = self.folder / token
        if not re.fullmatch(r"[\w-]+", token) or "/" in name or not folder.is_dir():
            return Response("This result was deleted after an hour.", status_code=404)
        path = folder / name
        if "download" in request.query_params and path.suffix in formats.RATES:
            path = await run_in_threadpool(self._encoded, path)
            return FileResponse(path, filename=name)
        if not path.is_file():
            return Response(status_code=404)
        return FileResponse(path, filename=name, content_disposition_type="inline")

    def _encoded(self, path: Path) -> Path:
        """The file at `path`, or beside it one of the rate that downloads have, made from the WAV file."""
        out = path.with_name(f"download{path.suffix}")
        if not out.is_file():
            wav = path.with_suffix(".wav")
            sound = replace(audio.read(wav), comment=audio.comment(wav))
            formats.write(out, sound, self._rates[path.parent.name])
        return out

    def _sweep(self) -> None:
        while self.folder.is_dir():
            for folder in self.folder.iterdir():
                if time.time() - folder.stat().st_mtime > KEPT:
                    shutil.rmtree(folder, ignore_errors=True)
                    self._rates.pop(folder.name, None)
            time.sleep(SWEPT)


@lru_cache
def file_name(text: str) -> str:
    """A text as a name of a file that every system takes."""
    return re.sub(r"[^\w .()+-]+", "_", text).strip(" .")[:LONGEST_NAME] or "sound"
