"""The command for embeddings and content codes: embed."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vcae.cli import console, paths
from vcae.cli.options import Device, Model, Sources, load_converter
from vcae.errors import VcaeError
from vcae.files import check_output, replacing
from vcae.progress import Progress


def embed(
    files: Sources,
    out: Path,
    content: bool = False,
    units: bool = False,
    model: Model = "studio",
    device: Device = "cpu",
) -> None:
    """Write speaker embeddings to a NumPy archive: `files` (n,) and `embeddings` (n, E), of unit norm.

    Args:
        files: recordings, or folders of them
        out: the archive, NAME.npz
        content: write content codes instead: for each file an array (D, T) under the file's name
        units: write ids of the content codes instead: (T,) for each file; needs a discrete bottleneck
    """
    check_output(out, [".npz"])
    plan = [(path, out) for path, _ in paths.recordings(files)]
    converter = load_converter(model, device)
    if units and not converter.autoencoder.bottleneck.discrete:
        raise VcaeError(
            "--units needs weights with a discrete bottleneck, and these are continuous; use --content"
        )
    arrays: dict[str, NDArray[Any]] = {}

    def encode(path: Path, _: Path, progress: Progress) -> None:
        if content or units:
            code = converter.content(path, progress)
            arrays[str(path)] = (code.z if code.ids is None or not units else code.ids).numpy()
        else:
            arrays[str(path)] = converter.embed(path, progress)

    failed = console.for_each(plan, encode)
    if not (content or units):
        arrays = {"files": np.array(list(arrays)), "embeddings": np.stack(list(arrays.values()))}
    _write_npz(out, arrays)
    console.report(failed)


def _write_npz(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Write an archive like np.savez, which does not accept all names, such as `file`."""
    with replacing(path) as unfinished, zipfile.ZipFile(unfinished, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as f:
                np.lib.format.write_array(f, array, allow_pickle=False)
