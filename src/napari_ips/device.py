"""Choice of the device that computes, and whether its memory was too small."""

from __future__ import annotations

import platform

import torch

from napari_ips.errors import IPSError

# How PyTorch words it where it has no exception of its own for it.
_SHORT = ("can't allocate memory", "not enough memory", "out of memory", "ALLOC_FAILED")

# What a CPU calls it that multiplies bfloat16 itself: of Intel and AMD, and of ARM.
_BFLOAT16 = ("avx512bf16", "amx-bf16", "bf16")


def choose_device(name: str = "auto") -> torch.device:
    """Return the torch device of a setting; ``"auto"`` takes a CUDA GPU if there is one.

    Raises
    ------
    IPSError
        If the device is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise IPSError(f"There is no device {name} here; use --device cpu or auto.")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise IPSError("There is no Apple GPU (mps) here; use --device cpu or auto.")
    return device


def why_no_bfloat16(device: torch.device) -> str:
    """Say why bfloat16 is of no use on a device; nothing if it is."""
    if device.type == "cuda":
        known = torch.cuda.is_bf16_supported(including_emulation=False)
        return "" if known else "the GPU does not multiply bfloat16"
    if device.type == "cpu":
        from llvmlite import binding

        features = binding.get_host_cpu_features()
        known = any(features.get(name) for name in _BFLOAT16)
        return "" if known else "the CPU does not multiply bfloat16"
    return f"it is not known of {device.type}"


def list_devices() -> dict[str, str]:
    """Return what there is to compute on: the devices of a setting, and their names."""
    found = {"cpu": platform.processor() or platform.machine()}
    if torch.backends.mps.is_available():
        found["mps"] = "Apple GPU"
    for number in range(torch.cuda.device_count()):
        found[f"cuda:{number}"] = torch.cuda.get_device_name(number)
    return found


def is_short_of_memory(error: Exception) -> bool:
    """Tell whether an error is that memory does not suffice, of the CPU or a GPU."""
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or any(words in str(error) for words in _SHORT)
