"""Settings of the network, of training and of fusion.

One set of pydantic models serves the command line, the Python functions and the
widgets. Unknown fields are refused, so that a misspelt setting is never ignored.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import tomli_w
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from napari_ips.errors import IPSError

LowPassKind = Literal["mean", "median", "gaussian"]
ScanBackend = Literal["auto", "reference", "numba", "chunked", "triton", "mamba_ssm"]


def _known_device(name: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", name):
        raise ValueError("choose auto, cpu, cuda, cuda:0 (or another number), or mps")
    return name


Device = Annotated[str, AfterValidator(_known_device)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
OddSize = Annotated[int, Field(ge=3, le=101)]


class Config(BaseModel):
    """Base of all settings: frozen, strict about names, readable from TOML."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    @classmethod
    def checked(cls, **values: Any) -> Self:
        """Build the settings; what is wrong is told in one plain line (IPSError)."""
        try:
            return cls(**values)
        except ValidationError as error:
            raise IPSError(_plainly(error.errors()[0])) from error

    @classmethod
    def from_toml(cls, path: str | Path) -> Self:
        """Read the settings from a TOML file written by `to_toml` or by hand."""
        try:
            values = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise IPSError(f"{path} cannot be read as TOML: {error}") from error
        return cls.checked(**values)

    def to_toml(self, path: str | Path) -> None:
        """Write the settings as TOML; fields that are None are left out."""
        values = self.model_dump(mode="json", exclude_none=True)
        Path(path).write_text(tomli_w.dumps(values), encoding="utf-8")


def parse_assignment(assignment: str) -> dict[str, Any]:
    """Read ``field=value``; a value that is no TOML is taken as text."""
    field, equals, value = assignment.partition("=")
    if not equals:
        raise IPSError(f"{assignment}: write it as FIELD=VALUE.")
    for text in (value, f"'{value}'"):
        try:
            return tomllib.loads(f"{field} = {text}")
        except tomllib.TOMLDecodeError:
            continue
    raise IPSError(f"{assignment}: this is no TOML; write it as FIELD=VALUE.")


def _plainly(error: ErrorDetails) -> str:
    """Say in one line which setting is wrong, and what it must be."""
    # Of a number or a word, the parser tells which it tried.
    parts = [str(part) for part in error["loc"] if part != "constrained-float"]
    field = ".".join(parts)
    told, value = error["msg"].removeprefix("Value error, "), error["input"]
    if not field:
        return f"{told[0].upper()}{told[1:]}."
    if error["type"] == "missing":
        return f"The setting {field} is missing."
    if error["type"] == "extra_forbidden":
        return f"There is no setting {field}; check how it is spelt."
    if error["type"] == "literal_error":
        choices = error["ctx"]["expected"].replace("'", "")
        return f"{field} must be {choices}, not {value!r}."
    rule = told.removeprefix("Input should be ")
    if rule == told:
        return f"{field}: {told} (not {value!r})."
    # After a comma follows why the value is wrong, in terms of the parser.
    rule = rule.partition(",")[0]
    rule = rule.replace("greater than or equal to", "at least")
    rule = rule.replace("less than or equal to", "at most")
    return f"{field} must be {rule}, not {value!r}."


class NetworkConfig(Config):
    """Shape of the cross-image fusion network (Section III-B, Fig. 4).

    The defaults are those of the shipped weights. The paper's own are
    ``output="image"``, ``global_stride=1`` and ``unshuffle=1``.
    """

    in_channels: int = Field(1, ge=1, le=16, description="channels of each source image")
    width: int = Field(24, ge=1, le=512, description="feature channels per source image")
    local_blocks: int = Field(3, ge=0, le=64, description="ResBlocks of the local branch")
    mamba_blocks: int = Field(
        12, ge=0, le=64, description="Mamba blocks of the global branch"
    )
    d_state: int = Field(16, ge=1, le=256, description="state size N of the scan")
    d_conv: int = Field(4, ge=1, le=64, description="taps of the causal convolution")
    expand: int = Field(
        2, ge=1, le=16, description="inner width of a Mamba block, relative"
    )
    output: Literal["selection", "image"] = Field(
        "selection", description="weight of source 1 per pixel, or the image itself"
    )
    global_stride: Literal[1, 2, 4] = Field(
        2, description="the global branch sees every n-th row and column"
    )
    unshuffle: Literal[1, 2] = Field(
        2, description="the network works on squares of n x n pixels as channels"
    )


class FuseConfig(Config):
    """How a stack or a pair is fused."""

    weights: str = Field("default", description="name of registered weights, or a file")
    mode: Literal["soft", "hard"] = Field(
        "soft", description="average slices near focus, or take each pixel from one slice"
    )
    strategy: Literal["integrate", "fold"] = Field(
        "integrate", description="compare neighbouring slices, or fold one after another"
    )
    regularise: bool = Field(
        True, description="smooth the evidence; off: the network's raw decision per pixel"
    )
    smoothing: float | None = Field(
        None, gt=0, le=50, description="sigma in pixels; None: from the measured noise"
    )
    temperature: float | None = Field(
        None, gt=0, description="of the soft mode; None: from the measured noise"
    )
    skip: bool = Field(
        True, description="spare slices the finer scales where coarser ones rule them out"
    )
    finest: Literal[1, 2] = Field(
        1, description="1/n of the resolution at which slices are compared at the finest"
    )
    both_orders: bool = Field(
        False, description="compare every two slices in both orders, and average"
    )
    tile: Literal["auto", 256, 512, 1024, 2048, 4096] = Field(
        "auto", description="edge of the parts worked on at once; auto: from free memory"
    )
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        "float32", description="of the network's matrix products"
    )
    device: Device = "auto"
    backend: ScanBackend = "auto"

    @property
    def quality(self) -> str | None:
        """The quality that these settings are those of, if they are."""
        return next((q for q in QUALITIES if self.changed({}, q) == self), None)

    def changed(self, values: Mapping[str, Any], quality: str | None = None) -> Self:
        """Return these settings with a quality and then other values put over them.

        ``"fast"`` takes the bundled weights of the small network in place of the others.
        With weights of one's own, or that are named here, it compares at half the
        resolution instead.

        Raises
        ------
        IPSError
            If there is no such quality, or a value is wrong.
        """
        chosen: dict[str, Any] = {}
        if quality is not None:
            if quality not in QUALITIES:
                known = ", ".join(QUALITIES)
                raise IPSError(f"The quality must be {known}, not {quality}.")
            chosen = dict(QUALITIES[quality])
            bundled = {settings["weights"] for settings in QUALITIES.values()}
            if "weights" in values or self.weights not in bundled:
                chosen["weights"] = values.get("weights", self.weights)
            if quality == "fast" and chosen["weights"] != QUALITIES["fast"]["weights"]:
                chosen["finest"] = 2
        return self.checked(**{**self.model_dump(), **chosen, **values})


# What a user may choose between who does not want to know more; docs/fusion.md has what
# they cost and bring.
QUALITIES: dict[str, dict[str, Any]] = {
    "fast": {"weights": "fast", "finest": 1, "both_orders": False, "skip": True},
    "balanced": {"weights": "default", "finest": 1, "both_orders": False, "skip": True},
    "best": {"weights": "default", "finest": 1, "both_orders": True, "skip": False},
}


class TrainConfig(Config):
    """Everything that decides a training run. See `from_preset` for the two presets."""

    images: tuple[Path, ...] = Field(description="files and folders of in-focus images")
    output: Path = Field(description="the .safetensors file to write")
    preset: str = Field("microscopy", description="recorded in the weights")
    notes: str = Field("", description="kept in the card of the weights")
    network: NetworkConfig = NetworkConfig()
    start_from: str | None = Field(None, description="weights to fine-tune")
    teacher: str | None = Field(
        None, description="weights whose decisions are learnt as well, by a smaller network"
    )
    teacher_share: Fraction = Field(
        0.5, description="of the decisions to learn; the rest is the truth"
    )
    z_stacks: Literal["slices", "best", "fused"] = Field(
        "slices",
        description="of z-stacks among the images: every slice that is sharp, the "
        "sharpest slice of each tile, or the stack fused first",
    )

    iterations: int | None = Field(None, ge=1, description="length of the run in steps")
    minutes: float | None = Field(None, gt=0, description="length of the run in minutes")
    batch_size: int = Field(4, ge=1)
    crop_size: int = Field(128, ge=16, description="edge of the training crops, pixels")
    learning_rate: float = Field(1e-3, gt=0, le=1)
    decay_start: Fraction = Field(
        0.5, description="from this fraction of the run on, the rate falls to zero"
    )
    gradient_clip: float = Field(1.0, ge=0, description="largest gradient norm; 0: any")
    ema_decay: float = Field(0.998, ge=0, lt=1, description="averaging of the weights")
    decision_loss: float = Field(
        1.0, ge=0, description="weight of the cross-entropy of the selection itself"
    )
    decision_floor: float = Field(
        0.005, ge=0, description="of this weight even where the sources do not differ"
    )

    low_pass: tuple[LowPassKind, ...] = Field(("mean", "gaussian"), min_length=1)
    kernel_range: tuple[OddSize, OddSize] = Field((3, 31), description="odd sizes")
    mask_ratio: Fraction = Field(0.5, description="p: probability of a swap (Eq. 2)")
    coherent: Fraction = Field(0.5, description="share of pairs masked by smooth blobs")
    blob_scale: tuple[float, float] = Field((2.0, 24.0), description="pixels")
    both_defocused: Fraction = Field(0.3, description="share of pairs with no sharp side")
    surroundings: bool = Field(True, description="blur with what is around, not mirrored")
    dark_border: Fraction = Field(0.2, description="share of blurs with black outside")
    overexposed: Fraction = Field(0.2, description="share of pairs with cut highlights")
    noise: Annotated[float, Field(ge=0, le=0.5)] | Literal["measured"] = Field(
        0.03, description="largest noise, of full range; measured: from the images"
    )
    noise_grain: Fraction = Field(
        0.3, description="share of the noise that neighbouring pixels have in common"
    )
    jpeg: Fraction = Field(0.2, description="share of pairs compressed as JPEG")
    intensity_jitter: bool = Field(True, description="contrast, offset, gamma, inversion")

    min_sharpness: float = Field(0.06, ge=0, description="softer crops are rejected")
    max_saturated: Fraction = Field(
        0.5, description="crops with a larger share of pixels at the top are rejected"
    )
    validation_crops: int = Field(16, ge=1, description="held-out crops to measure on")
    validation_interval: int = Field(200, ge=1, description="steps between measurements")
    checkpoint_seconds: float = Field(
        60.0, ge=0, description="time between checkpoints; 0: after every step"
    )
    seed: int = Field(0, ge=0, description="of everything random")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="of the network's matrix products; auto: bfloat16 on a CPU that "
        "multiplies it itself",
    )
    device: Device = "auto"
    backend: ScanBackend = "auto"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.iterations is None and self.minutes is None:
            raise ValueError("give the length of the run as iterations or as minutes")
        low, high = self.kernel_range
        if low % 2 == 0 or high % 2 == 0 or low > high:
            raise ValueError("kernel_range needs two odd sizes, the smaller first")
        if self.blob_scale[0] <= 0 or self.blob_scale[0] > self.blob_scale[1]:
            raise ValueError("blob_scale needs two positive sizes, the smaller first")
        return self

    def fraction_done(self, iterations: int, seconds: float) -> float:
        """Return how much of a run is done, by steps or by time, whichever is further."""
        by_steps = iterations / self.iterations if self.iterations else 0.0
        by_time = seconds / (60.0 * self.minutes) if self.minutes else 0.0
        return max(by_steps, by_time)

    @classmethod
    def from_preset(cls, preset: str, **values: Any) -> Self:
        """Return the settings of a preset, with ``values`` put over them.

        ``"paper"`` follows Section III-C; ``"microscopy"`` (the defaults) adds what real
        micrographs need: coherent focus regions, noise, slices of which none is sharp.
        Weights to start from bring their own network, in place of that of the preset.
        """
        if preset not in PRESETS:
            known = ", ".join(PRESETS)
            raise IPSError(f"There is no preset {preset!r}; choose one of: {known}.")
        chosen = PRESETS[preset] | {"preset": preset}
        if values.get("start_from") is not None:
            chosen.pop("network", None)
        return cls.checked(**(chosen | values))


PRESETS: dict[str, dict[str, Any]] = {
    "paper": {
        "network": NetworkConfig(width=16, output="image", global_stride=1, unshuffle=1),
        "iterations": 1_000_000,
        "batch_size": 1,
        "crop_size": 128,
        "learning_rate": 1e-4,
        "decay_start": 0.5,
        "gradient_clip": 0.0,
        "ema_decay": 0.0,
        "decision_loss": 0.0,
        "precision": "float32",
        "low_pass": ("mean",),
        "kernel_range": (3, 31),
        "mask_ratio": 0.5,
        "coherent": 0.0,
        "both_defocused": 0.0,
        "surroundings": False,
        "dark_border": 0.0,
        "overexposed": 0.0,
        "noise": 0.0,
        "noise_grain": 0.0,
        "jpeg": 0.0,
        "intensity_jitter": False,
    },
    "microscopy": {},
}
