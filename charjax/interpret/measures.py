"""How well units track a predicate, summed up piece by piece of the text."""

import numpy as np


class Correlation:
    """Pearson's r of each unit with a target, from sums in float64."""

    def __init__(self, target_T: np.ndarray, a_PxH: np.ndarray) -> None:
        self.count = len(target_T)
        self.mean = target_T.mean()
        self.target_square = np.square(target_T - self.mean).sum()
        # Sums are of differences from a first value: a unit that never moves has none.
        self.origin_H = a_PxH[0].astype(np.float64)
        self.sum_H, self.square_H, self.product_H = np.zeros((3, a_PxH.shape[1]))

    def add(self, a_PxH: np.ndarray, target_P: np.ndarray) -> None:
        """Adds a piece of the text: activations and the target at its characters."""
        moved_PxH = a_PxH - self.origin_H
        self.sum_H += moved_PxH.sum(axis=0)
        self.square_H += np.square(moved_PxH).sum(axis=0)
        self.product_H += (target_P - self.mean) @ moved_PxH

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the score and the sign of each unit."""
        square_H = self.square_H - np.square(self.sum_H) / self.count
        scale_H = np.sqrt(np.maximum(square_H, 0) * self.target_square)
        r_H = np.divide(
            self.product_H, scale_H, out=np.zeros_like(scale_H), where=scale_H > 0
        )
        return np.minimum(np.abs(r_H), 1), np.where(r_H < 0, -1, 1)


class Area:
    """The area under the curve of each unit for a target of 0 and 1, from histograms.

    The bins are even on the scale of asinh(16 z), with z how many standard deviations
    a value is from the mean, both of the first piece: linear near the mean, and
    logarithmic beyond, since a cell's memory is not bounded.
    """

    _FINEST = 1 / 16
    _LARGEST = 1e6
    _BINS = 1 << 11

    def __init__(self, target_T: np.ndarray, a_PxH: np.ndarray) -> None:
        del target_T
        values_PxH = a_PxH.astype(np.float64)
        self.mean_H, std_H = values_PxH.mean(axis=0), values_PxH.std(axis=0)
        self.scale_H = np.where(std_H > 0, std_H, 1) * self._FINEST
        self.counts_HxBx2 = np.zeros((a_PxH.shape[1], self._BINS, 2), np.int64)

    def add(self, a_PxH: np.ndarray, target_P: np.ndarray) -> None:
        """Adds a piece of the text: activations and the target at its characters."""
        scale = self._BINS / 2 / np.arcsinh(self._LARGEST / self._FINEST)
        bins = np.arcsinh((a_PxH - self.mean_H) / self.scale_H) * scale
        bins = np.clip(bins + self._BINS / 2, 0, self._BINS - 1).astype(np.int64)
        H = a_PxH.shape[1]
        places = (np.arange(H) * self._BINS + bins) * 2 + target_P[:, None].astype(int)
        np.add.at(self.counts_HxBx2.reshape(-1), places, 1)

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the score and the sign of each unit."""
        false_HxB, true_HxB = np.moveaxis(self.counts_HxBx2, -1, 0)
        below_HxB = false_HxB.cumsum(axis=1) - false_HxB / 2
        pairs_H = true_HxB.sum(axis=1) * false_HxB.sum(axis=1)
        area_H = (true_HxB * below_HxB).sum(axis=1) / pairs_H
        return np.maximum(area_H, 1 - area_H), np.where(area_H < 0.5, -1, 1)
