"""The metric of phase congruency, and phase congruency itself."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from napari_ips.evaluation.metrics.images import Grey, Image, comparable

# The filters answer in single precision: twice as fast, and right to 1e-6.
Single = NDArray[np.float32]
Complex = NDArray[np.complex64]

# The filters of Kovesi's code as of 2005, that the field measures with. Later versions
# of it have other angular filters, noise thresholds and weights.
WAVELENGTHS = 3 * 2.1 ** np.arange(4, dtype=np.float32).reshape(-1, 1, 1)
ANGLES = np.pi / 6 * np.arange(6, dtype=np.float32).reshape(-1, 1, 1)
BANDWIDTH = 0.55
ANGULAR_SIGMA = np.pi / 6 / 1.2
_EPSILON = 1e-4

# Where the congruency is larger, there is a feature.
FEATURE = 0.1
_CONSTANT = 1e-4
WINDOW = 11


@dataclass(frozen=True)
class Features:
    """Phase congruency of every pixel, and its largest and smallest moment."""

    congruency: Grey
    largest: Grey
    smallest: Grey


@dataclass(frozen=True)
class FilterBank:
    """Log-Gabor filters in the frequency domain, each the product of one of each kind.

    ``radial`` (4, Y, X), from the shortest wavelength to the longest, and ``angular``
    (6, Y, X), counter-clockwise from the x axis, both with frequency 0 in the corner.
    ``noise`` (6,): the energy at each angle that white noise gives, for a median
    amplitude of 1 at the shortest wavelength.
    """

    radial: Single
    angular: Single
    noise: Grey

    @classmethod
    def of(cls, shape: tuple[int, ...]) -> FilterBank:
        """Build the filters for images of a shape."""
        y, x = (fft.fftfreq(length).astype(np.float32) for length in shape)
        y = -y[:, np.newaxis]
        radius = np.sqrt(y * y + x * x)
        # Keeps the corners of the spectrum out.
        low_pass = 1 / (1 + (radius / 0.45) ** 30)
        radius[0, 0] = 1
        deviation = np.log(radius * WAVELENGTHS) / math.log(BANDWIDTH)
        radial = np.exp(-0.5 * deviation**2) * low_pass
        radial[:, 0, 0] = 0
        away = np.abs(np.arctan2(y, x) - ANGLES)
        away = np.minimum(away, 2 * np.pi - away)
        angular = np.exp(-0.5 * (away / ANGULAR_SIGMA) ** 2)
        noise = np.array([_noise_energy(radial, each) for each in angular])
        return cls(radial, angular, noise)


def q_p(fused: Image, a: Image, b: Image) -> float:
    """Preservation of phase congruency (Zhao, Laganiere and Liu, IJICIC 3, 2007).

    `phase_congruency` gives three maps of each image: congruency, largest and smallest
    moment. M takes its maps from A where A's congruency is larger, else from B. For each
    map the correlation ``(cov + c) / (sd sd + c)``, c = 0.0001, of F with A, with B and
    with M is taken in Gaussian windows of 11 x 11 pixels (sigma 1.5, 0 beyond the
    border); A, B and M are 0, and so is their correlation, where their congruency is
    below 0.1. The largest of the three, summed over the image and divided by the number
    of pixels where M is not 0, is multiplied over the maps.

    From 0 to about 1, higher is better; ``nan`` if no pixel has a congruency above 0.1.

    Parameters
    ----------
    fused, a, b : ndarray, (Y, X) or (Y, X, C), any integer or float dtype
        The fused image and its two sources, at least 11 x 11 pixels.

    Raises
    ------
    IPSError
        If the images do not fit together; see `images.comparable`.
    """
    images = comparable(fused, a, b, WINDOW)
    bank = FilterBank.of(images[0].shape)
    f, first, second = (phase_congruency(image, bank) for image in images)
    stronger = first.congruency > second.congruency
    masks = [each.congruency > FEATURE for each in (first, second)]
    masks.append(masks[0] | masks[1])
    if not masks[-1].any():
        return float("nan")
    quality = 1.0
    for name in ("congruency", "largest", "smallest"):
        of_f, of_first, of_second = (getattr(each, name) for each in (f, first, second))
        sources = [of_first, of_second, np.where(stronger, of_first, of_second)]
        quality *= _preservation(of_f, sources, masks)
    return quality


def phase_congruency(image: Grey, bank: FilterBank) -> Features:
    """Phase congruency PC2 (Kovesi, Videre 1, 1999; DICTA 2003) of an image (Y, X).

    The responses R to the filters of one orientation, complex with the even part as
    real and the odd one as imaginary part, point in similar directions at a feature.
    With u the direction of their sum, the energy is ``sum(Re(R u*) - |Im(R u*)|)`` over
    the scales, less a threshold for noise, and weighted by how many scales respond.
    Congruency is the energy of all orientations divided by their ``sum(|R|)``, from 0
    to 1; the moments are those of the energies divided so in each orientation.
    """
    spectrum = fft.fft2(image.astype(np.float32))
    energies, amplitudes, xx, yy, xy = np.zeros((5, *image.shape))
    for angle, angular, noise in zip(ANGLES.flat, bank.angular, bank.noise, strict=True):
        energy, amplitude = _oriented_energy(spectrum * angular * bank.radial, noise)
        energies += energy
        amplitudes += amplitude
        share = np.divide(energy, amplitude, out=np.zeros_like(energy), where=energy > 0)
        share *= share
        xx += np.cos(angle) ** 2 * share
        yy += np.sin(angle) ** 2 * share
        xy += np.cos(angle) * np.sin(angle) * share
    # Twice the mixed moment would need 4 in place of 1; the field measures without.
    mixed, difference, both = (
        moment / ANGLES.size for moment in (xy, 2 * (xx - yy), 2 * (xx + yy))
    )
    spread = np.sqrt(mixed**2 + difference**2) + _EPSILON
    congruency = energies / (amplitudes + _EPSILON)
    return Features(congruency, (both + spread) / 2, (both - spread) / 2)


def _oriented_energy(spectra: Complex, noise: float) -> tuple[Single, Single]:
    """Energy, and sum of the amplitudes, of the responses with these spectra."""
    responses = fft.ifft2(spectra, overwrite_x=True)
    amplitudes = np.abs(responses)
    total = responses.sum(axis=0)
    length = np.abs(total)
    total /= length + _EPSILON
    across = np.abs((responses * total.conj()).imag)
    energy = length * np.abs(total) - across.sum(axis=0)
    energy -= np.median(amplitudes[0]) * noise
    amplitude = amplitudes.sum(axis=0)
    width = amplitude / (amplitudes.max(axis=0) + _EPSILON) / len(amplitudes)
    weighted = np.maximum(energy, 0) / (1 + np.exp(10 * (0.5 - width)))
    return weighted, amplitude


def _noise_energy(radial: Single, angular: Single) -> float:
    """Mean, and two standard deviations more, of the energy that noise gives.

    Its power follows from the median amplitude (here 1) at the shortest wavelength,
    where noise is most of what there is. 1.7 is Kovesi's empirical factor for PC2.
    """
    power = 1 / np.log(2) / np.square(angular * radial[0]).sum()
    response = radial.sum(axis=0) * angular
    mirrored = np.roll(response[::-1, ::-1], 1, axis=(0, 1))
    tau = np.sqrt(power * np.square((response + mirrored) / 2).sum())
    return float(tau * (np.sqrt(np.pi / 2) + 2 * np.sqrt(2 - np.pi / 2)) / 1.7)


def _preservation(
    fused: Grey, sources: list[Grey], masks: list[NDArray[np.bool_]]
) -> float:
    """Largest correlation with a source at every pixel, per pixel that has a feature."""
    mean = _smooth(fused)
    variance = _smooth(fused * fused) - mean * mean
    # A source without a feature at a place counts there as uncorrelated.
    best = np.where(np.logical_and.reduce(masks), -np.inf, 0.0)
    for source, mask in zip(sources, masks, strict=True):
        seen = source * mask
        of_source, square, product = (
            _smooth(values)[mask] for values in (seen, seen * seen, seen * fused)
        )
        covariance = product - of_source * mean[mask]
        spread = np.sqrt(np.abs((square - of_source * of_source) * variance[mask]))
        correlation = (covariance + _CONSTANT) / (spread + _CONSTANT)
        best[mask] = np.maximum(best[mask], correlation)
    return float(best[masks[-1]].mean())


def _smooth(values: Grey) -> Grey:
    """Gaussian means in windows of 11 x 11 pixels, 0 being beyond the border."""
    means: Grey = ndimage.gaussian_filter(values, 1.5, mode="constant", radius=WINDOW // 2)
    return means
