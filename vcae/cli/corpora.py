"""The command for corpora: download."""

from pathlib import Path

from tyro.conf import Positional

from vcae.cli import console
from vcae.cli.console import err
from vcae.corpora import sources


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
