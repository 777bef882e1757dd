"""EMOVA's vision towers as graphs, with their projectors."""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt
from typing import Any, cast

import torch
from torch import Tensor, nn

from emova_sdk.components.emova.vision.modeling_vision import EmovaVisionModel
from emova_sdk.components.graph import Axis, Graph
from emova_sdk.models.exported_vision import NativeVision, OrdinaryVision, TileVision
from emova_sdk.models.vision_tower import VisionTower


def vision_graph(model: EmovaVisionModel, *, metadata: Mapping[str, str]) -> Graph:
    """Tower and projector as the graph ``vision``.

    Of a native-resolution tower the inputs are ``pixels`` (patches, values) and ``grids`` (pictures, 3), and all pictures'
    rows come out together; of the others ``pixels`` are tiles (tiles, channels, side, side), and each tile's rows come out.

    Args:
        model: Tower and projector, in float32.
        metadata: Facts for the runtime.
    """
    tower, projector = model.parts()
    vision: Any = model.config.vision_config
    return _native(tower, projector, metadata) if tower.native else _tiled(tower, projector, vision, metadata)


def _native(tower: VisionTower, projector: nn.Module, metadata: Mapping[str, str]) -> Graph:
    network = cast("Any", tower.network)
    merge = int(network.spatial_merge_size)
    values = network.patch_embed.proj.weight[0].numel()
    area = merge**2
    patches = Axis("patches", area, 256 * area, 4096 * area, multiple_of=area)
    pictures = Axis("pictures", 1, 2, 16)

    def sample(sizes: Mapping[str, int]) -> dict[str, Tensor]:
        blocks = sizes["patches"] // area
        count = min(sizes["pictures"], blocks)
        shares = [blocks // count + (number < blocks % count) for number in range(count)]
        grids = torch.tensor([[1, merge * down, merge * (share // down)] for share in shares for down in (_across(share),)])
        rng = torch.Generator().manual_seed(sum(sizes.values()))
        return {"pixels": torch.randn(area * blocks, values, generator=rng), "grids": grids}

    return Graph(
        "vision",
        NativeVision(tower, projector).eval(),
        sample({"patches": 7 * area, "pictures": 3}),
        ("rows",),
        {"pixels": {0: patches}, "grids": {0: pictures}},
        sample=sample,
        checks=({"patches": 35 * area, "pictures": 5}, {"patches": 6 * area, "pictures": 1}),
        reference=OrdinaryVision(tower, projector).eval(),
        metadata={**metadata, "native": "1"},
    )


def _across(share: int) -> int:
    """The largest divisor that is not above the root: grids as square as can be."""
    return next(one for one in range(isqrt(share), 0, -1) if share % one == 0)


def _tiled(tower: VisionTower, projector: nn.Module, vision: Any, metadata: Mapping[str, str]) -> Graph:
    side = int(vision.image_size)

    def sample(sizes: Mapping[str, int]) -> dict[str, Tensor]:
        rng = torch.Generator().manual_seed(sizes["tiles"])
        return {"pixels": torch.randn(sizes["tiles"], 3, side, side, generator=rng)}

    return Graph(
        "vision",
        TileVision(tower, projector).eval(),
        sample({"tiles": 2}),
        ("rows",),
        {"pixels": {0: Axis("tiles", 1, 3, 36)}},
        sample=sample,
        metadata={**metadata, "native": "0"},
    )
