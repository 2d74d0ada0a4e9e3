"""The command for embeddings and content codes: embed."""

import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from tyro.conf import arg

from vcae.cli import console, paths
from vcae.cli.cluster import Cluster, Loaded
from vcae.cli.options import Device, Ray, Sources, load_converter
from vcae.errors import VcaeError
from vcae.files import OutputError, check_output, replacing
from vcae.inference.encoders import SpeakerEncoder
from vcae.progress import Progress

Arrays: TypeAlias = dict[str, NDArray[Any]]
UNIT = np.dtype([("unit", "<i4"), ("start", "<f8"), ("end", "<f8")])
"""A unit and its time in seconds."""
OptionalModel = Annotated[
    str | None,
    arg(help="studio, live, units or a folder that training wrote; default: studio, or units with --units"),
]


def embed(
    files: Sources,
    out: Path,
    content: bool = False,
    units: bool = False,
    merge: bool = False,
    every: Annotated[float | None, arg(metavar="SECONDS")] = None,
    ray: Ray = None,
    model: OptionalModel = None,
    device: Device = "cpu",
) -> None:
    """Write speaker embeddings: `files` (n,) and `embeddings` (n, E), of unit norm.

    The output is a NumPy archive, or a Parquet table with these columns if pyarrow is installed.

    Args:
        files: recordings, or folders of them
        out: the archive, NAME.npz, or the table, NAME.parquet
        content: write content codes instead: for each file an array (D, T) under the file's name
        units: write the units of a discrete content code instead: for each file an array (T,) of `unit`,
            `start` and `end` in seconds
        merge: with --units, a unit that is repeated is one unit
        every: write embeddings along each file instead, one every so many seconds, of 1.6 seconds each; with
            `times` (n,), the middle of each in seconds
    """
    codes = content or units
    if content and units:
        raise VcaeError("--content and --units exclude each other; give one of them")
    if merge and not units:
        raise VcaeError("--merge merges repeated units; give --units, too")
    check_output(out, [".npz"] if codes else [".npz", ".parquet"])
    if every is not None and (codes or not every >= 0.01):
        raise VcaeError("--every is the step in seconds between speaker embeddings, 0.01 or more")
    if out.suffix.lower() == ".parquet" and find_spec("pyarrow") is None:
        raise OutputError(f"{out}: needs pyarrow, which is not installed; pip install 'vcae[parquet]'")
    plan = [(path, out) for path, _ in paths.recordings(files)]
    model = model or ("units" if units else "studio")
    workers = Cluster(ray, device=device) if ray else None
    loaded = Loaded(load_converter, model, device)
    if units and not loaded.it.autoencoder.bottleneck.discrete:
        raise VcaeError(
            f"--units needs a model with a discrete bottleneck, such as units; that of {model} is continuous"
        )
    encoder = Loaded(_speaker_encoder, model, device) if every is not None else None

    def encode(path: Path, _: Path, progress: Progress) -> tuple[NDArray[Any], NDArray[Any] | None]:
        """Codes, and their times if they are along the recording."""
        converter = loaded.it
        if codes:
            code = converter.content(path, progress)
            if units and code.ids is not None:
                step = converter.step / converter.sample_rate
                return units_with_times(code.ids.numpy(), step, merge), None
            return code.z.numpy(), None
        if encoder and every is not None:
            track = encoder.it.slide(path, step=every)
            return track.codes, track.times
        return converter.embed(path, progress)[None], None

    found: dict[Path, tuple[NDArray[Any], NDArray[Any] | None]] = {}
    failed = console.for_each(plan, encode, workers=workers, take=found.__setitem__)
    done = {str(path): found[path] for path, _ in plan if path in found}  # workers have their own order
    arrays: Arrays = {name: array for name, (array, _) in done.items()}
    if not codes:
        names = [name for name, array in arrays.items() for _ in array]
        arrays = {"files": np.array(names), "embeddings": np.concatenate(list(arrays.values()))}
        if every is not None:
            arrays["times"] = np.concatenate([times for _, times in done.values() if times is not None])
    (_write_npz if out.suffix.lower() == ".npz" else _write_parquet)(out, arrays)
    console.report(failed)


def _speaker_encoder(model: str, device: str) -> SpeakerEncoder:
    return SpeakerEncoder.from_pretrained(model).to(device)


def units_with_times(ids: NDArray[Any], step: float, merge: bool) -> NDArray[Any]:
    """Units of `step` seconds each as an array of `UNIT`: (T,) -> (T,), or fewer with `merge`."""
    starts = np.flatnonzero(np.diff(ids, prepend=-1)) if merge else np.arange(len(ids))
    found = np.empty(len(starts), UNIT)
    found["unit"], found["start"] = ids[starts], starts * step
    found["end"] = np.append(starts[1:], len(ids)) * step
    return found


def _write_npz(path: Path, arrays: Arrays) -> None:
    """Write an archive like np.savez, which does not accept all names, such as `file`."""
    with replacing(path) as unfinished, zipfile.ZipFile(unfinished, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as f:
                np.lib.format.write_array(f, array, allow_pickle=False)


def _write_parquet(path: Path, arrays: Arrays) -> None:
    """Write a table with a column for each array; of (n, E), a column of lists of E numbers."""
    import pyarrow.parquet

    columns = {
        name: pyarrow.array(array)
        if array.ndim == 1
        else pyarrow.FixedSizeListArray.from_arrays(array.ravel(), array.shape[1])
        for name, array in arrays.items()
    }
    with replacing(path) as unfinished:
        pyarrow.parquet.write_table(pyarrow.table(columns), unfinished)
