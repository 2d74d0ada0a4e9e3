"""A cache of extracted features on disk."""

import hashlib
from pathlib import Path

import numpy as np

from vcae.audio import Audio
from vcae.evaluation.metrics.base import Features, Metric
from vcae.files import replacing


class FeatureCache:
    """Features by metric, metric version and content of the recording. Nothing is ever deleted.

    A file is `folder`/NAME-VERSION/HASH, `.txt` for a transcript and `.npy` for an array. Without a folder,
    features are computed each time.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def extract(self, metric: Metric, audio: Audio) -> Features:
        """Read the features of a recording from the cache, or compute and store them. Raises MetricError."""
        if self.folder is None:
            return metric.extract(audio)
        content = hashlib.sha256(audio.samples.tobytes() + str(audio.sample_rate).encode()).hexdigest()
        path = self.folder / f"{metric.name}-{metric.version}" / content[:2] / content[2:]
        text, array = path.with_suffix(".txt"), path.with_suffix(".npy")
        if text.exists():
            return text.read_text(encoding="utf-8")
        if array.exists():
            stored: Features = np.load(array, allow_pickle=False)
            return stored
        features = metric.extract(audio)
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(features, str):
            with replacing(text) as unfinished:
                unfinished.write_text(features, encoding="utf-8")
        else:
            with replacing(array) as unfinished, unfinished.open("wb") as file:
                np.save(file, features, allow_pickle=False)
        return features


def default_cache_folder() -> Path:
    """The cache folder in the user's cache directory."""
    from platformdirs import user_cache_path

    return user_cache_path("vcae") / "features"
