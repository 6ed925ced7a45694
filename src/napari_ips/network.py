"""The cross-image fusion network of Section III-B (Fig. 4)."""

from __future__ import annotations

import math
from typing import Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_ips.config import NetworkConfig
from napari_ips.errors import IPSError
from napari_ips.mamba import Mamba, MambaBlock
from napari_ips.scan import takes_float32_on_cpu


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
        self._initialise()

    def _initialise(self) -> None:
        """Let features keep their size from layer to layer, and blocks begin quietly.

        He's initialisation (arXiv:1502.01852), with residual branches that add a tenth of
        it, or in the global branch less the more there are, as in ``mamba_ssm``. PyTorch's
        own lets features shrink, and training starts several times as slowly.
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(cast(Tensor, module.bias))
        with torch.no_grad():
            for module in self.modules():
                if isinstance(module, ResBlock):
                    module.conv2.weight *= 0.1
                elif isinstance(module, Mamba):
                    module.out_proj.weight /= math.sqrt(self.config.mamba_blocks)

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
