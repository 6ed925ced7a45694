"""Weights of the network: one safe file format, and the registry of named weights.

Weights are ``.safetensors`` files: tensors and a few strings, nothing that could run
code when it is loaded. Bundled ones lie in the package, a user's own in the folder that
the platform keeps for application data.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from napari_ips.config import NetworkConfig
from napari_ips.errors import IPSError
from napari_ips.files import written_whole
from napari_ips.network import CrossImageFusionNetwork

if TYPE_CHECKING:
    from torch import Tensor

_FORMAT = "napari-ips weights 1"
_BUNDLED = Path(__file__).parent / "data" / "weights"


@dataclass(frozen=True)
class WeightsInfo:
    """Weights that the registry knows.

    Attributes
    ----------
    name : str
        Name by which they are chosen.
    path : Path
        The file.
    bundled : bool
        Whether they came with the package.
    card : dict of str
        What the file says of itself: preset, iterations, validation figures, licence.
    """

    name: str
    path: Path
    bundled: bool
    card: dict[str, str]


def user_folder() -> Path:
    """Return the folder of the user's own weights; it need not exist yet."""
    return platformdirs.user_data_path("napari-ips", appauthor=False) / "weights"


def list_weights() -> list[WeightsInfo]:
    """List all registered weights, bundled first; files that cannot be read are left out.

    A user's weights may not hide bundled ones: of equal names the bundled one is kept.
    """
    found: dict[str, WeightsInfo] = {}
    for folder, bundled in ((_BUNDLED, True), (user_folder(), False)):
        for path in sorted(folder.glob("[!.]*.safetensors")):
            try:
                card = read_card(path)
            except IPSError:
                continue
            found.setdefault(path.stem, WeightsInfo(path.stem, path, bundled, card))
    return list(found.values())


def find_weights(name: str | Path) -> Path:
    """Return the file of registered weights, or of a path that was given."""
    for info in list_weights():
        if info.name == str(name):
            return info.path
    path = Path(name)
    if path.is_file():
        return path
    known = ", ".join(info.name for info in list_weights()) or "none"
    raise IPSError(
        f"There are no weights {str(name)!r}: give a .safetensors file or one of: {known}."
    )


def save_weights(
    path: Path, network: CrossImageFusionNetwork, card: dict[str, str]
) -> None:
    """Write a network and its card; the file appears whole or not at all."""
    metadata = card | {
        "format": _FORMAT,
        "network": network.config.model_dump_json(),
        "package_version": package_version(),
    }
    write_tensors(path, network.state_dict(), metadata)


def load_weights(name: str | Path) -> tuple[CrossImageFusionNetwork, dict[str, str]]:
    """Build the network of a registered name or a file, and return its card.

    Returns
    -------
    network : CrossImageFusionNetwork
        In evaluation mode, on the CPU.
    card : dict of str
        The metadata of the file.

    Raises
    ------
    IPSError
        If the file is missing, truncated, or not weights of this package.
    """
    path = find_weights(name)
    card = read_card(path)
    try:
        # Weights of before there was a choice name none.
        shape = {"unshuffle": 1} | json.loads(card["network"])
        config = NetworkConfig.model_validate(shape)
    except (KeyError, TypeError, ValueError) as error:
        raise IPSError(
            f"{path} describes a network that this version does not know; "
            "it may need a newer napari-ips."
        ) from error
    tensors, _ = read_tensors(path)
    network = CrossImageFusionNetwork.from_config(config)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise IPSError(
            f"{path} does not hold the tensors of the network that it describes."
        ) from error
    return network.eval(), card


def read_card(path: Path) -> dict[str, str]:
    """Read the metadata of a weights file without its tensors."""
    card = read_metadata(path)
    if card.get("format") != _FORMAT:
        raise IPSError(f"{path} is a safetensors file, but not weights of napari-ips.")
    return card


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file under its name only when it is complete."""
    content = save({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, metadata)
    with written_whole(path) as temporary:
        temporary.write_bytes(content)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors and metadata of a safetensors file."""
    metadata = read_metadata(path)
    with safe_open(path, framework="pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, metadata  # noqa: SIM118


def read_metadata(path: Path) -> dict[str, str]:
    """Read the metadata of a safetensors file without its tensors."""
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise IPSError(
            f"{path} cannot be read as weights: it is damaged, cut short, "
            "or no .safetensors file."
        ) from error


def card_numbers(card: dict[str, str]) -> dict[str, object]:
    """Return a card with its JSON values parsed, for display."""
    parsed: dict[str, object] = {}
    for key, text in card.items():
        try:
            parsed[key] = json.loads(text)
        except (ValueError, RecursionError):
            parsed[key] = text
    return parsed


def package_version() -> str:
    """Return the version of the package, as far as it is known."""
    try:
        return version("napari-ips")
    except PackageNotFoundError:
        return "unknown"
