import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_ips.errors import IPSError
from napari_ips.evaluation import benchmark
from napari_ips.evaluation.datasets import StackSample, find_samples
from napari_ips.evaluation.external import fitted, parse_command, parse_fused
from napari_ips.evaluation.scenes import Scene
from napari_ips.io import write_image
from samples import SHARP, halves, put_pairs

# Reads what it is given with other libraries than those that wrote it.
READ = """
import numpy as np, tifffile, imagecodecs
def read(path):
    if path.suffix == ".png":
        return imagecodecs.png_decode(path.read_bytes())
    return tifffile.imread(path)
if source.is_dir():
    slices = np.stack([read(path) for path in sorted(source.iterdir())])
else:
    slices = read(source)
"""
WRITE = READ + (
    "write = tifffile.imwrite if target.suffix == '.tif' else imagecodecs.imwrite\n"
    "write(target, {})"
)


@pytest.fixture
def program(tmp_path):
    """Write a program that knows `source` and `target`; return the words that run it."""

    def write(body, arguments="{input} {output}"):
        path = tmp_path / "a program.py"
        head = "import sys, pathlib; source, target = map(pathlib.Path, sys.argv[1:])\n"
        path.write_text(head + body)
        return f"theirs={sys.executable} '{path}' {arguments}"

    return write


def scene(slices):
    sample = StackSample("set", "s", Path("stack.tif"), None, None)
    return Scene(sample, slices, slices.ndim == 4)


def fuse(text, slices, **options):
    name, method = parse_command(text, **options)
    assert name == "theirs"
    return method(scene(slices))


@pytest.mark.parametrize(
    ("dtype", "colours", "source"),
    [
        ("uint8", (), "{input}"),
        ("uint16", (), "{input}"),
        ("uint16", (3,), "{input}"),
        ("float32", (), "{input}"),
        ("uint16", (), "{stack}"),
        ("uint8", (3,), "{stack}"),
    ],
)
def test_programs_get_the_slices_as_they_are(program, dtype, colours, source):
    rng = np.random.default_rng(1)
    slices = rng.integers(0, 255, (12, 9, 11, *colours)).astype(dtype)
    if dtype == "uint16":
        slices *= 200
    last = program(WRITE.format("slices[-1]"), f"{source} {{output}}")
    fused = fuse(last, slices)
    assert fused.image.dtype == dtype
    np.testing.assert_array_equal(fused.image, slices[-1])
    assert 0 < fused.seconds < 60


def test_program_that_names_its_image_itself(program):
    body = "tifffile.imwrite(target / 'a b.tif', slices[0]); (target / 'log.txt').touch()"
    fused = fuse(program(READ + body, "{input} {output_dir}"), np.stack(halves(SHARP)))
    np.testing.assert_array_equal(fused.image, halves(SHARP)[0])


def test_programs_that_fail_are_told_in_a_line(program):
    slices = np.stack(halves(SHARP))

    def failure(body, arguments="{input} {output}", **options):
        with pytest.raises(IPSError) as caught:
            fuse(program(body, arguments), slices, **options)
        assert len(str(caught.value).splitlines()) == 1
        return str(caught.value)

    said = failure("print('x' * 999, 'no\\n lens', file=sys.stderr); sys.exit(3)")
    assert said.startswith("theirs failed with code 3: ...xxx")
    assert said.endswith("no lens")
    assert len(said) < 400
    assert failure("sys.exit(4)") == "theirs failed with code 4 and printed nothing."
    assert failure("print('done')") == "theirs wrote no image: done"
    two = "[(target / f'{n}.tif').touch() for n in range(2)]"
    assert "wrote 2 images" in failure(two, "{input} {output_dir}")
    small = failure(WRITE.format("slices[0][1:]"))
    assert "has the shape (47, 60) and should have (48, 60)" in small


def test_slow_programs_are_stopped_with_what_they_started(program, tmp_path):
    mark = tmp_path / "mark"
    body = (
        "import subprocess, time; print('busy', flush=True)\n"
        f'late = \'import time; time.sleep(3); open(r"{mark}", "w")\'\n'
        "subprocess.Popen([sys.executable, '-c', late])\n"
        "time.sleep(60)"
    )
    # Long enough for the start of Python on a busy machine.
    with pytest.raises(IPSError, match="theirs took more than 2 s"):
        fuse(program(body), np.stack(halves(SHARP)), timeout=2)
    time.sleep(3)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tool {input} {output}", "NAME=PROGRAM"),
        ("theirs=", "NAME=PROGRAM"),
        ("theirs=python {output}", "needs {input} or {stack}"),
        ("theirs=python {input}", "needs {output} or {output_dir}"),
        ("theirs=python '{input} {output}", "quotes"),
        ("theirs=no-such-tool {input} {output}", "no program no-such-tool"),
    ],
)
def test_bad_commands_fail_before_anything_runs(text, words):
    with pytest.raises(IPSError, match=words):
        parse_command(text)


def test_images_fused_elsewhere(tmp_path):
    put_pairs(tmp_path / "set")
    theirs = tmp_path / "theirs"
    (theirs / "set").mkdir(parents=True)
    write_image(theirs / "set" / "one.tif", SHARP)
    samples = find_samples(tmp_path / "set")
    with pytest.raises(IPSError, match=r"there is no two\.png"):
        parse_fused(f"theirs={theirs}", samples)
    write_image(theirs / "two.png", SHARP)
    name, method = parse_fused(f"theirs={theirs}", samples)
    rows = list(benchmark.run(samples, {name: method}))
    assert [(row.method, row.figures["psnr"], row.seconds) for row in rows] == [
        ("theirs", np.inf, None)
    ] * 2
    # Of several images the one that loses nothing is taken.
    for path in (theirs / "set" / "one.jpg", theirs / "two.jpeg"):
        Image.fromarray(SHARP).save(path, quality=5)
    (theirs / "two.png").rename(theirs / "two.PNG")
    again = benchmark.run(samples, {name: parse_fused(f"theirs={theirs}", samples)[1]})
    assert [row.figures["psnr"] for row in again] == [np.inf] * 2
    with pytest.raises(IPSError, match="NAME=FOLDER"):
        parse_fused(str(theirs), samples)
    with pytest.raises(IPSError, match="is not a folder"):
        parse_fused("theirs=nowhere", samples)


def test_images_are_brought_to_the_type_of_the_stack():
    grey, wide = SHARP, SHARP.astype(np.uint16) * 257
    colour = np.stack([grey] * 3, -1)
    opaque = np.concatenate([colour, np.full_like(colour[..., :1], 255)], -1)
    for image in (grey, wide, colour, opaque, wide / 257):
        if image.dtype == np.float64:
            image = image + 0.3
        like = fitted(image, np.stack([grey]), "it")
        assert like.dtype == np.uint8
        np.testing.assert_array_equal(like, grey)
    np.testing.assert_array_equal(fitted(colour, np.stack([wide]), "it"), wide)
    np.testing.assert_array_equal(fitted(grey, np.stack([colour]), "it"), colour)
    uneven = colour * np.array([1, 0, 0], np.uint8)
    np.testing.assert_allclose(fitted(uneven, np.stack([grey]), "it"), 0.299 * grey, atol=1)
    np.testing.assert_array_equal(
        fitted(grey * 300.0, np.stack([grey]), "it") == 255, grey > 0
    )
