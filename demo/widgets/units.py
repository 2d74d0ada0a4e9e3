"""Clusters of content codes, for the colours of pictures."""

import colorsys

import numpy as np
from numpy.typing import NDArray

from vcae import Converter

from ..studio import SAMPLES
from ..widgets.pictures import Array

KINDS = 24
GREY = 128.0


class Units:
    """K-means clusters of the content codes of the sample voices, each with a colour.

    Similar clusters have similar colours. The hue is the angle of a centre in the plane of the first two
    principal components of the centres; the lightness follows the third component.
    """

    def __init__(self, converter: Converter) -> None:
        from scipy.cluster.vq import kmeans2  # not above, since it delays the start of the page

        frames = np.hstack([converter.content(sample.path).z.numpy() for sample in SAMPLES.values()]).T
        self.centres, _ = kmeans2(frames, KINDS, minit="++", seed=0)
        centres = self.centres - self.centres.mean(0)
        x, y, z = (centres @ np.linalg.svd(centres, full_matrices=False)[2][:3].T).T  # (KINDS,) each
        hue = np.arctan2(y, x) / (2 * np.pi) % 1
        lightness = np.interp(z, [z.min(), z.max()], [0.35, 0.75])
        rgb = [colorsys.hls_to_rgb(h, light, 0.6) for h, light in zip(hue, lightness, strict=True)]
        self.colours = 255 * np.array(rgb)

    def paint(self, content: Array) -> NDArray[np.float64]:
        """Colours of content (D, T): (1, T, 3), grey where it is zero."""
        from scipy.cluster.vq import vq

        colours = self.colours[vq(content.T, self.centres)[0]]
        colours[~content.any(axis=0)] = GREY
        return colours[None]
