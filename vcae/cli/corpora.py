"""Commands for corpora: download, shard."""

import os
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from vcae.cli import console
from vcae.cli.console import err
from vcae.corpora import sources
from vcae.corpora.exclude import leave_out, read_excluded
from vcae.corpora.layouts import read_speech
from vcae.corpora.splits import split_by_speaker, trainable
from vcae.errors import VcaeError
from vcae.model.config import PRESETS


def download(
    corpus: Positional[str | None] = None,
    out: Path | None = None,
    parts: tuple[str, ...] = (),
    dry_run: bool = False,
) -> None:
    """Download, verify and unpack a public speech corpus; without CORPUS, list them with source and licence.

    A download that was interrupted continues. It says first how much disk it needs.

    Args:
        corpus: name of the corpus, such as vctk
        out: folder for the corpus; default: one of that name
        parts: parts of the corpus, such as train-clean-100; default: all
        dry_run: only say how much disk is needed
    """
    if corpus is None:
        rows = [[name, s.title, s.licence, s.page, " ".join(s.parts)] for name, s in sources.SOURCES.items()]
        console.show([["corpus", "title", "licence", "official page", "parts"], *rows])
        return
    plan = sources.plan_download(corpus, out or Path(corpus), parts)
    source = sources.SOURCES[corpus]
    err.print(f"{source.title}, from {source.page}; licence: {source.licence}")
    if not plan.archives:
        err.print(f"{plan.folder}: is there already")
        return
    err.print(
        f"{len(plan.archives)} archives, {sum(plan.sizes) / 1e9:.1f} GB to download;"
        f" needs up to {plan.needed / 1e9:.1f} GB of disk in {plan.folder}, {plan.free / 1e9:.1f} GB are free"
    )
    if not dry_run:
        sources.download(plan, console.track)
        err.print(f"{plan.folder}: is complete; check it with vcae doctor {plan.folder}")


def shard(
    folder: Positional[Path],
    out: Path,
    speakers: str | None = None,
    corpus: str | None = None,
    transcripts: Path | None = None,
    exclude: Path | None = None,
    validation: int = 24,
    recordings: int = 500,
    mel: Literal["16k", "24k"] = "16k",
    processes: int = os.cpu_count() or 1,
) -> None:
    """Write a corpus as shards with labels, for recipes to train on (--shards), of whatever size it is.

    Shards are tar files in WebDataset's format: FLAC, F0, phones and a description of each recording. Only a
    few are in memory at a time. The same command continues where it was stopped.

    Args:
        folder: a corpus as published, a folder of several corpora, or your own recordings
        out: folder for the shards, `train` and `validation` in it
        speakers: how your own recordings name speakers, as for `vcae doctor`
        corpus: name of the corpus, if the name of FOLDER is another
        transcripts: folder of NAME.tsv with texts, for corpora without
        exclude: exclude.tsv of `vcae doctor`: files to leave out
        validation: number of speakers to validate with
        recordings: recordings of a shard
        mel: the mel spectrogram of the networks, named by its sample rate
        processes: recordings to label at the same time
    """
    from vcae.training.shards import write_shards

    if recordings < 1:
        raise VcaeError(f"--recordings must be 1 or more, not {recordings}")
    utterances = trainable(read_speech(folder, corpus, transcripts, speakers))
    if exclude:
        utterances = leave_out(utterances, folder, read_excluded(exclude))
    everyone = len({u.speaker for u in utterances})
    if not 0 < validation < everyone:
        raise VcaeError(
            f"{folder}: has {everyone} speakers to train on; --validation must be less, and 1 or more"
        )
    for name, part in zip(("train", "validation"), split_by_speaker(utterances, validation, 1), strict=True):
        shards = write_shards(out / name, part, PRESETS[mel], recordings, processes, console.track)
        for line in (line for each in shards for line in each.skipped):
            err.print(f"skipped: {line}")
        hours = sum(each.seconds for each in shards) / 3600
        err.print(f"{out / name}: {len(shards)} shards, {hours:.2f} h")
