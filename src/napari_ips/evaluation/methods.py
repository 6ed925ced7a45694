"""The methods that a benchmark compares, each chosen by a name or a short text.

A method takes a `Scene` and returns what it made of it. Programs and images from
elsewhere are in `napari_ips.evaluation.external`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter
from typing import Any

from numpy.typing import NDArray

from napari_ips.config import FuseConfig, parse_assignment
from napari_ips.errors import IPSError
from napari_ips.evaluation import baselines, classical
from napari_ips.evaluation.baselines import Selection
from napari_ips.evaluation.scenes import Scene

Array = NDArray[Any]


@dataclass(frozen=True)
class Fused:
    """What a method gives.

    ``image`` is (Y, X[, C]) in the dtype of the stack. ``depth`` (Y, X), a height map in
    slices, and ``index`` (Y, X), the slice of each pixel, are None where a method makes
    none. ``seconds`` is the time it took, None where that is not known.
    """

    image: Array
    depth: Array | None = None
    index: Array | None = None
    seconds: float | None = None


Method = Callable[[Scene], Fused]

# What each name sets, and the quality it stands for; all else comes from the user.
IPS: dict[str, tuple[dict[str, Any], str | None]] = {
    "ips": ({"mode": "soft"}, None),
    "ips-hard": ({"mode": "hard"}, None),
    "ips-raw": ({"regularise": False}, None),
    "ips-fast": ({"mode": "soft"}, "fast"),
    "ips-best": ({"mode": "soft"}, "best"),
    "ips-best-hard": ({"mode": "hard"}, "best"),
}
DEFAULT_METHODS = ("ips", "window-energy", "max", "mean", "best-slice")


def parse_methods(texts: Sequence[str], config: FuseConfig) -> dict[str, Method]:
    """Find methods by their names.

    Parameters
    ----------
    texts : sequence of str
        Names out of `IPS` and `CLASSICAL`, several in one text separated by commas.
        One of `IPS` may go on with ``:FIELD=VALUE,FIELD=VALUE``, settings of
        `FuseConfig` put over its own: ``ips:mode=hard,temperature=0.5``.
    config : FuseConfig
        Weights, device and so on, as far as the names do not set them.

    Returns
    -------
    dict
        Methods by the texts that name them, in their order.

    Raises
    ------
    IPSError
        If a name, field or value is unknown, or the weights are.
    """
    names = [name for text in texts for name in _split(text)]
    return {name: _method(name, config) for name in names}


def _split(text: str) -> list[str]:
    """Split at commas, but not between the settings of one method."""
    names: list[str] = []
    for part in text.split(","):
        # Only names have a colon before the first equals sign.
        setting = "=" in part and ":" not in part.partition("=")[0]
        if setting and names and ":" in names[-1]:
            names[-1] += f",{part.strip()}"
        else:
            names.append(part.strip())
    return names


def _method(name: str, config: FuseConfig) -> Method:
    base, colon, settings = name.partition(":")
    if base in IPS:
        return _ips(config, *IPS[base], settings.split(",") if colon else [])
    if name in CLASSICAL:
        return timed(CLASSICAL[name])
    raise IPSError(
        f"Unknown method: {name or '(none given)'}; choose from "
        f"{', '.join([*IPS, *CLASSICAL])}."
    )


def timed(fuse: Method) -> Method:
    """Measure the time of a method that runs in this program."""

    def fuse_and_measure(scene: Scene) -> Fused:
        start = perf_counter()
        fused = fuse(scene)
        return replace(fused, seconds=perf_counter() - start)

    return fuse_and_measure


def _ips(
    config: FuseConfig,
    own: dict[str, Any],
    quality: str | None,
    assignments: Sequence[str],
) -> Method:
    given: dict[str, Any] = {}
    for assignment in assignments:
        given |= parse_assignment(assignment)
    chosen = config.changed(own | given, quality)
    # Unknown weights are told now, not once for every sample.
    from napari_ips.weights import find_weights

    find_weights(chosen.weights)
    return timed(partial(_fuse_ips, config=chosen))


def _fuse_ips(scene: Scene, config: FuseConfig) -> Fused:
    from napari_ips.fusion import fuse_pair, fuse_stack

    if scene.pair:
        result = fuse_pair(*scene.slices, rgb=scene.rgb, config=config)
    else:
        result = fuse_stack(scene.slices, rgb=scene.rgb, config=config)
    return Fused(result.fused, result.depth, result.index)


def _selected(selection: Selection) -> Fused:
    return Fused(selection.fused, selection.index, selection.index)


CLASSICAL: dict[str, Method] = {
    "window-energy": lambda scene: _selected(baselines.window_energy(scene.slices)),
    "laplacian-pyramid": lambda scene: Fused(classical.laplacian_pyramid(scene.slices)),
    "dtcwt": lambda scene: Fused(classical.dtcwt(scene.slices)),
    "guided-filter": lambda scene: _selected(classical.guided_filter(scene.slices)),
    "max": lambda scene: Fused(baselines.max_projection(scene.slices)),
    "mean": lambda scene: Fused(baselines.mean_projection(scene.slices)),
    # One slice is no height map, so that it gives no index.
    "best-slice": lambda scene: Fused(
        baselines.best_single_slice(scene.slices, scene.truth).fused
    ),
    "true-slice": lambda scene: _selected(baselines.true_slice(scene.slices, scene.height)),
}
