"""The cross-image fusion network of Section III-B (Fig. 4) and its Mamba block."""

from __future__ import annotations

import math
from typing import Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_ips.config import NetworkConfig
from napari_ips.errors import IPSError
from napari_ips.scan import (
    fuses_blocks,
    selective_scan,
    takes_float32_on_cpu,
    trains_on_cpu,
)
from napari_ips.scan.conv import causal_conv1d


class ResBlock(nn.Module):
    """Two 3x3 convolutions with a ReLU between and an identity around them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, channels, H, W) to the same shape."""
        hidden = F.relu(_convolve(self.conv1, x), inplace=True)
        return _convolve(self.conv2, hidden).add_(x)


def _convolve(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """Convolve; to train in float32 on the CPU by a faster method than PyTorch's."""
    if torch.is_grad_enabled() and takes_float32_on_cpu(x):
        from napari_ips import winograd

        if winograd.fits(conv.in_channels) and winograd.fits(conv.out_channels):
            return winograd.convolve(x, conv)
    out: Tensor = conv(x)
    return out


class Mamba(nn.Module):
    """Selective state space layer, with the parameters of ``mamba_ssm.Mamba``.

    Names, shapes and initialisation are those of Mamba-1, so that a state dict of one
    loads into the other.

    Parameters
    ----------
    d_model : int
        Channels of a token.
    d_state : int
        State size N per inner channel.
    d_conv : int
        Taps of the causal depthwise convolution.
    expand : int
        Inner width, relative to ``d_model``.
    """

    def __init__(
        self, d_model: int, d_state: int = 16, d_conv: int = 4, expand: int = 2
    ) -> None:
        super().__init__()
        d_inner = expand * d_model
        self.d_state = d_state
        self.dt_rank = math.ceil(d_model / 16)
        self.backend = "auto"
        self.in_proj = nn.Linear(d_model, 2 * d_inner, bias=False)
        self.conv1d = nn.Conv1d(
            d_inner, d_inner, d_conv, groups=d_inner, padding=d_conv - 1
        )
        self.x_proj = nn.Linear(d_inner, self.dt_rank + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(self.dt_rank, d_inner)
        states = torch.arange(1, d_state + 1, dtype=torch.float32)
        self.A_log = nn.Parameter(torch.log(states).repeat(d_inner, 1))
        self.D = nn.Parameter(torch.ones(d_inner))
        self.out_proj = nn.Linear(d_inner, d_model, bias=False)
        self._initialise_step_size()

    def _initialise_step_size(self, low: float = 1e-3, high: float = 0.1) -> None:
        """Draw initial step sizes log-uniformly from [low, high], as Mamba does."""
        nn.init.uniform_(self.dt_proj.weight, -(self.dt_rank**-0.5), self.dt_rank**-0.5)
        step = torch.exp(
            torch.rand_like(self.dt_proj.bias) * math.log(high / low) + math.log(low)
        ).clamp(min=1e-4)
        inverse_softplus = step + torch.log(-torch.expm1(-step))
        with torch.no_grad():
            self.dt_proj.bias.copy_(inverse_softplus)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (batch, L, d_model) to the same shape; token k sees tokens 0 to k."""
        xz = self.in_proj(tokens)
        if trains_on_cpu(tokens, self.backend):
            out: Tensor = self.out_proj(self._inner(xz))
            return out
        x, z = xz.chunk(2, dim=-1)
        x = causal_conv1d(x, self.conv1d.weight, self.conv1d.bias, self.backend)
        sizes = [self.dt_rank, self.d_state, self.d_state]
        step, B, C = self.x_proj(x).split(sizes, dim=-1)
        step = step @ self.dt_proj.weight.T
        y = selective_scan(
            x.transpose(1, 2),
            step.transpose(1, 2),
            -torch.exp(self.A_log.float()),
            B.transpose(1, 2),
            C.transpose(1, 2),
            self.D.float(),
            z.transpose(1, 2),
            self.dt_proj.bias.float(),
            delta_softplus=True,
            backend=self.backend,
        )
        out = self.out_proj(y.transpose(1, 2))
        return out

    def _inner(self, xz: Tensor) -> Tensor:
        """Do what is between the outer projections as one step of the gradients."""
        from napari_ips.scan import inner_cpu

        return inner_cpu.mamba_inner(
            xz,
            (self.conv1d.weight, cast(Tensor, self.conv1d.bias)),
            self.x_proj.weight,
            (self.dt_proj.weight, self.dt_proj.bias),
            -torch.exp(self.A_log),
            self.D,
        )


class MambaBlock(nn.Module):
    """Layer normalisation, a Mamba layer, and an identity around both."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        d_model = 2 * config.width
        self.norm = nn.LayerNorm(d_model)
        self.mamba = Mamba(d_model, config.d_state, config.d_conv, config.expand)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (batch, L, d_model) to the same shape."""
        if fuses_blocks(tokens, self.mamba.backend):
            return self._fused(tokens)
        out: Tensor = tokens + self.mamba(self.norm(tokens))
        return out

    def _fused(self, tokens: Tensor) -> Tensor:
        """Do the same in one kernel, without a graph for gradients."""
        from napari_ips.scan import fused_cpu

        norm, mamba = self.norm, self.mamba
        weights = fused_cpu.pack(
            norm=(norm.weight, norm.bias),
            in_proj=mamba.in_proj.weight,
            conv1d=(mamba.conv1d.weight, cast(Tensor, mamba.conv1d.bias)),
            x_proj=mamba.x_proj.weight,
            dt_proj=(mamba.dt_proj.weight, mamba.dt_proj.bias),
            A_log=mamba.A_log,
            D=mamba.D,
            out_proj=mamba.out_proj.weight,
        )
        return fused_cpu.mamba_block(tokens, weights, norm.eps)


class GlobalBranch(nn.Module):
    """Mamba blocks over the pixels in row-major order, at 1/stride of the resolution."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        d_model, stride = 2 * config.width, config.global_stride
        self.blocks = nn.ModuleList(MambaBlock(config) for _ in range(config.mamba_blocks))
        self.down: nn.Module = nn.Identity()
        self.up: nn.Module = nn.Identity()
        if stride > 1 and config.mamba_blocks:
            self.down = nn.Conv2d(d_model, d_model, stride, stride)
            self.up = nn.ConvTranspose2d(d_model, d_model, stride, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, d_model, H, W) to the same shape; H, W multiples of the stride."""
        x = self.down(x)
        height, width = x.shape[2:]
        tokens = x.permute(0, 2, 3, 1).reshape(len(x), height * width, -1)
        for block in self.blocks:
            tokens = block(tokens)
        maps = tokens.reshape(len(x), height, width, -1).permute(0, 3, 1, 2)
        out: Tensor = self.up(maps)
        return out


class CrossImageFusionNetwork(nn.Module):
    """Fuse two source images of which each pixel is in focus in one (Fig. 4).

    A convolution and a ResBlock, shared by the sources, extract shallow features, which
    are concatenated and go through a local branch of ResBlocks beside a global branch
    of Mamba blocks; both are concatenated and reconstructed.

    Parameters
    ----------
    in_channels : int
        Channels of each source image.
    width : int
        Feature channels per source image; both branches work on twice as many.
    local_blocks, mamba_blocks : int
        Depth of the local and of the global branch. With 0 there is no such branch, and
        nothing goes around the other one (the ablations of Table IV).
    d_state, d_conv, expand : int
        Of the Mamba layers, see `Mamba`.
    output : {"selection", "image"}
        The weight of source 1 per pixel, or the fused image itself (the paper's).
    global_stride : {1, 2, 4}
        The global branch sees every n-th row and column; 1 is the paper's.
    unshuffle : {1, 2}
        Squares of n x n pixels become the channels of one, and the decisions of one the
        pixels of a square: all but the last step then has so many fewer pixels to work
        on. 1 is the paper's.

    Raises
    ------
    IPSError
        If a value is out of range, or there is neither branch.
    """

    def __init__(
        self,
        in_channels: int = 1,
        width: int = 24,
        local_blocks: int = 3,
        mamba_blocks: int = 12,
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
        output: str = "selection",
        global_stride: int = 2,
        unshuffle: int = 2,
    ) -> None:
        super().__init__()
        self.config = config = NetworkConfig.checked(
            in_channels=in_channels,
            width=width,
            local_blocks=local_blocks,
            mamba_blocks=mamba_blocks,
            d_state=d_state,
            d_conv=d_conv,
            expand=expand,
            output=output,
            global_stride=global_stride,
            unshuffle=unshuffle,
        )
        branches = (config.local_blocks > 0) + (config.mamba_blocks > 0)
        if branches == 0:
            raise IPSError("local_blocks and mamba_blocks are both 0; give one of them.")
        both = 2 * width
        area = config.unshuffle**2
        outputs = area * (config.in_channels if config.output == "image" else 1)
        self.encoder = nn.Sequential(
            nn.Conv2d(area * config.in_channels, width, 3, padding=1),
            nn.ReLU(),
            ResBlock(width),
        )
        self.local_branch = nn.Sequential(
            *(ResBlock(both) for _ in range(config.local_blocks))
        )
        self.global_branch = GlobalBranch(config)
        self.reconstruction = nn.Sequential(
            nn.Conv2d(branches * both, both, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(both, outputs, 1),
        )

    @classmethod
    def from_config(cls, config: NetworkConfig) -> Self:
        """Build the network that a config describes."""
        return cls(**config.model_dump())

    def set_scan_backend(self, backend: str) -> None:
        """Choose the backend of every scan; see `napari_ips.scan.selective_scan`."""
        for module in self.modules():
            if isinstance(module, Mamba):
                module.backend = backend

    def encode(self, image: Tensor) -> Tensor:
        """Return the shallow features of sources (batch, in_channels, H, W).

        Returns
        -------
        Tensor, shape (batch, width, ceil(H / unshuffle), ceil(W / unshuffle))
        """
        factor = self.config.unshuffle
        height, width = image.shape[2:]
        padding = (0, -width % factor, 0, -height % factor)
        if any(padding):
            image = F.pad(image, padding, mode="replicate")
        image = F.pixel_unshuffle(image, factor)
        if image.device.type == "cpu":
            # oneDNN convolves several times as fast where the channels come last.
            image = image.to(memory_format=torch.channels_last)
        features: Tensor = self.encoder(image)
        return features

    def decide(self, features1: Tensor, features2: Tensor) -> Tensor:
        """Combine the shallow features of both sources into the raw output.

        Returns
        -------
        Tensor
            (batch, 1, H, W) log-odds that source 1 is the one in focus for
            ``output="selection"``, else the image (batch, in_channels, H, W); H and W
            rounded up to multiples of ``unshuffle``.
        """
        features = torch.cat([features1, features2], dim=1)
        height, width = features.shape[2:]
        stride = self.config.global_stride
        padding = (0, -width % stride, 0, -height % stride)
        if any(padding):
            features = F.pad(features, padding, mode="replicate")
        hidden = self._joined(features)
        raw: Tensor = self.reconstruction[-1](hidden)[..., :height, :width]
        return F.pixel_shuffle(raw, self.config.unshuffle)

    def _joined(self, features: Tensor) -> Tensor:
        """Send features through the branches, and join what comes out."""
        join, rectify = cast(nn.Conv2d, self.reconstruction[0]), self.reconstruction[1]
        local, wide = self.config.local_blocks > 0, self.config.mamba_blocks > 0
        infers = not torch.is_grad_enabled() and takes_float32_on_cpu(features)
        if local and wide and infers:
            from napari_ips import winograd

            if winograd.fits(features.shape[1]):
                convs = [m for m in self.local_branch.modules() if isinstance(m, nn.Conv2d)]
                wide_maps = self.global_branch(features)
                return winograd.join(features, wide_maps, convs, join)
        maps = [self.local_branch(features)] if local else []
        if wide:
            maps.append(self.global_branch(features))
        out: Tensor = rectify(_convolve(join, torch.cat(maps, dim=1)))
        return out

    def forward(self, source1: Tensor, source2: Tensor) -> Tensor:
        """Return `decide` for two sources (batch, in_channels, H, W), cut to their size."""
        features = self.encode(torch.cat([source1, source2]))
        features1, features2 = features.chunk(2)
        height, width = source1.shape[2:]
        return self.decide(features1, features2)[..., :height, :width]

    def fuse(self, source1: Tensor, source2: Tensor) -> Tensor:
        """Return the fused image (batch, in_channels, H, W): psi of Eq. (3)."""
        raw: Tensor = self(source1, source2)
        if self.config.output == "image":
            return raw
        return torch.lerp(source2, source1, torch.sigmoid(raw))
