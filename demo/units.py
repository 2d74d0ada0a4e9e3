"""Kinds of sound, for colours: what content codes have in common."""

import colorsys
import math

import numpy as np
from numpy.typing import NDArray

from pictures import Array
from studio import SAMPLES
from vcae import Converter

KINDS = 24
GREY = 128.0


class Units:
    """Clusters of the content code's frames in the sample voices (k-means), each with a colour.

    Similar kinds have similar colours: the hue is the angle of a cluster's centre in the plane of the
    centres' first two principal components, the lightness follows the third.
    """

    def __init__(self, converter: Converter) -> None:
        from sklearn.cluster import KMeans  # slow to import

        frames = np.hstack([converter.content(path).z.numpy() for path in SAMPLES.values()]).T
        self.kmeans = KMeans(KINDS, n_init=1, random_state=0).fit(frames)
        centres = self.kmeans.cluster_centers_ - self.kmeans.cluster_centers_.mean(0)
        x, y, z = (centres @ np.linalg.svd(centres, full_matrices=False)[2][:3].T).T
        self.colours = (
            np.array(
                [
                    colorsys.hls_to_rgb(math.atan2(b, a) / (2 * math.pi) % 1, lightness, 0.6)
                    for a, b, lightness in zip(
                        x, y, np.interp(z, [z.min(), z.max()], [0.35, 0.75]), strict=True
                    )
                ]
            )
            * 255
        )

    def paint(self, content: Array) -> NDArray[np.float64]:
        """Colours of content (D, T): (1, T, 3), grey where there is none."""
        colours = self.colours[self.kmeans.predict(content.T)]
        colours[~content.any(axis=0)] = GREY
        return colours[None]
