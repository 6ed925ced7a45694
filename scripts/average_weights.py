"""Average weights that were trained from the same start with different seeds.

    python scripts/average_weights.py A.safetensors B.safetensors ... -o MEAN.safetensors

Weights that were adapted from one start lie in the same basin, where the mean of several
is often better than each (Wortsman et al., "Model soups", 2022). The card of the mean is
that of the first file, and tells the seeds of all.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from napari_ips.weights import load_weights, save_weights


def main() -> None:
    """Average the weights and write them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("weights", type=Path, nargs="+", help="two files or more")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    if len(arguments.weights) < 2:
        parser.error("give two files or more")
    if arguments.output.exists():
        raise SystemExit(f"{arguments.output} exists; choose another name.")
    loaded = [load_weights(path) for path in arguments.weights]
    network, card = loaded[0]
    if any(other.config != network.config for other, _ in loaded):
        raise SystemExit("The weights are of different networks.")
    states = [other.state_dict() for other, _ in loaded]
    mean = {key: torch.stack([s[key] for s in states]).mean(0) for key in states[0]}
    network.load_state_dict(mean)
    seeds = [json.loads(own["settings"])["seed"] for _, own in loaded]
    # Its own validation is not known, and that of one of them would not be true.
    told = {key: text for key, text in card.items() if not key.startswith("validation")}
    save_weights(arguments.output, network, told | {"mean_of_seeds": json.dumps(seeds)})


if __name__ == "__main__":
    main()
