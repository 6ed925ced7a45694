import pytest

from napari_ips.errors import IPSError
from napari_ips.evaluation.datasets import PairSample, StackSample, find_samples
from napari_ips.io import write_image
from samples import SHARP, put_pairs, put_stack


def test_finds_pairs_and_stacks_at_every_depth(tmp_path):
    put_pairs(tmp_path / "pairs" / "set")
    put_pairs(tmp_path / "pairs" / "untrue", truth=False)
    put_stack(tmp_path / "stacks" / "first")
    put_stack(tmp_path / "stacks" / "second", height=False, truth=False)
    pairs = find_samples(tmp_path / "pairs" / "set")
    assert [(type(s), s.dataset, s.name) for s in pairs] == [
        (PairSample, "set", "one"),
        (PairSample, "set", "two"),
    ]
    everything = find_samples(tmp_path)
    assert [s.name for s in everything] == ["one", "two", "one", "two", "first", "second"]
    assert [s.truth is None for s in everything] == [False, False, True, True, False, True]
    (alone,) = find_samples(tmp_path / "stacks" / "first")
    assert isinstance(alone, StackSample)
    assert alone.dataset == "stacks"
    assert alone.height is not None


def test_pairs_match_by_stem_over_suffixes(tmp_path):
    put_pairs(tmp_path, names=["x"])
    (tmp_path / "GT" / "x.png").unlink()
    write_image(tmp_path / "GT" / "x.tif", SHARP)
    (tmp_path / "A" / "notes.txt").write_text("no image")
    (sample,) = find_samples(tmp_path)
    assert sample.truth.name == "x.tif"


def test_lonely_image_is_named(tmp_path):
    put_pairs(tmp_path)
    (tmp_path / "B" / "two.png").unlink()
    with pytest.raises(IPSError, match=r"two\.png has no image of the same name"):
        find_samples(tmp_path)


def test_a_truth_that_belongs_to_no_pair_is_named(tmp_path):
    put_pairs(tmp_path)
    (tmp_path / "GT" / "two.png").rename(tmp_path / "GT" / "two_truth.png")
    with pytest.raises(IPSError, match=r"two_truth\.png has no images of the same name"):
        find_samples(tmp_path)


def test_two_images_of_one_name_are_refused(tmp_path):
    put_pairs(tmp_path)
    write_image(tmp_path / "A" / "one.tif", SHARP)
    with pytest.raises(IPSError, match="two images called one"):
        find_samples(tmp_path)


def test_samples_of_one_name_are_refused(tmp_path):
    put_pairs(tmp_path / "a" / "set")
    put_pairs(tmp_path / "b" / "set", names=["two"])
    with pytest.raises(IPSError, match="There are 2 samples set/two in"):
        find_samples(tmp_path)


def test_nothing_found_says_what_is_needed(tmp_path):
    with pytest.raises(IPSError, match="is not a folder"):
        find_samples(tmp_path / "missing")
    with pytest.raises(IPSError, match=r"sub-folders A, B .*stack\.tif"):
        find_samples(tmp_path)
