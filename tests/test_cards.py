"""What the cards of weights say to people."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_ips.cards import describe_card
from napari_ips.weights import find_weights, read_card


def test_a_card_is_described_in_plain_lines():
    card = {
        "training_set": json.dumps(
            {"images": 3, "pixels": 12_000_000, "dtypes": {"uint8": 2, "uint16": 1}}
        ),
        "sources": json.dumps(["a.tif", "b.tif", "c", "d", "e"]),
        "iterations": "1200",
        "training_minutes": "30.0",
        "reason": "asked",
        "date": "2025-03-01T13:05:09+01:00",
        "preset": "microscopy",
        "start_from": "default",
        "validation": json.dumps({"psnr": 43.218, "ssim": 0.98765}),
        "validation_before": json.dumps({"psnr": 40.0, "ssim": 0.95}),
        "notes": "20x\nobjective\x1b[31m",
        "licence": "BSD-3-Clause",
        "settings": "{}",
    }
    assert describe_card(card).splitlines() == [
        "Trained on: 3 images, 12 million pixels, uint8, uint16",
        "Sources: a.tif, b.tif, c and 2 more",
        "Length: 1200 steps, 30 minutes, ended early by hand",
        "Made: 2025-03-01 12:05 UTC",
        "Preset: microscopy",
        "Started from: default",
        "Validation: PSNR 40.00 -> 43.22 dB, SSIM 0.9500 -> 0.9877",
        "Notes: 20x objective[31m",
        "Licence: BSD-3-Clause",
    ]


def test_the_bundled_card_and_an_empty_one_are_described():
    told = describe_card(read_card(find_weights("default")))
    assert "Trained on: 514 images" in told
    assert "Validation: PSNR 53.26 -> 54.46 dB, SSIM 0.9969 -> 0.9970" in told
    assert describe_card({}) == ""


nonsense = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["images", "pixels", "dtypes", "psnr", "ssim", "start_from"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)
FIELDS = ["training_set", "sources", "iterations", "training_minutes", "reason", "date"]
FIELDS += ["preset", "start_from", "settings", "validation", "validation_before", "notes"]


@given(
    card=st.dictionaries(
        st.sampled_from(FIELDS), st.text(max_size=6) | nonsense.map(json.dumps), max_size=6
    )
)
def test_no_nonsense_in_a_card_keeps_it_from_being_described(card):
    for line in describe_card(card).splitlines():
        assert ": " in line
        assert line.isprintable()


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 5000, "1e999", "1" + "0" * 400])
def test_numbers_beyond_all_bounds_are_described(text):
    describe_card({"iterations": text, "validation": f'{{"psnr": {text}}}'})
