"""Small data sets for the tests of benchmarks."""

import numpy as np
from scipy.ndimage import gaussian_filter

from napari_ips.io import write_image, write_stack

SHARP = np.random.default_rng(0).integers(0, 250, (48, 60)).astype(np.uint8)


def put_pairs(folder, names=("one", "two"), truth=True, image=SHARP):
    for part in ("A", "B", *(["GT"] if truth else [])):
        (folder / part).mkdir(parents=True)
        for name in names:
            shown = image if part == "GT" else halves(image)["AB".index(part)]
            write_image(folder / part / f"{name}.png", shown)


def halves(image):
    soft = gaussian_filter(image, (3, 3, 0)[: image.ndim])
    left, right = image.copy(), image.copy()
    left[:, 30:], right[:, :30] = soft[:, 30:], soft[:, :30]
    return left, right


def put_stack(folder, image=SHARP, height=True, truth=True):
    folder.mkdir(parents=True)
    write_stack(folder / "stack.tif", np.stack(halves(image)))
    if truth:
        write_image(folder / "truth.tif", image)
    if height:
        heights = np.zeros(image.shape[:2], np.float32)
        heights[:, 30:] = 1
        np.save(folder / "height.npy", heights)
