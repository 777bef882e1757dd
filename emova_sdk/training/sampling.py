"""Batches of one modality and similar length, in the order training drew them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler

from emova_sdk.errors import InputError


def modality_order(
    lengths: Sequence[int], batch_size: int, world_size: int, generator: torch.Generator | None = None
) -> list[int]:
    """Order samples so that each mega-batch holds one modality and its batches are about equally long.

    Args:
        lengths: Length of each sample: positive with a picture, negative without, never 0.
        batch_size: Samples in a batch.
        world_size: Batches in a mega-batch: devices times accumulation steps.
        generator: Source of randomness; torch's global one when not given.

    Returns:
        Indices into ``lengths``. The incomplete mega-batches of both modalities are put together, sorted, at the end.

    Raises:
        InputError: A length is 0.
    """
    if not all(lengths):
        raise InputError("a sample has length 0", "leave samples without text out")
    pictured = [index for index, length in enumerate(lengths) if length > 0]
    texts = [index for index, length in enumerate(lengths) if length < 0]
    if not pictured or not texts:
        return _flat(_mega_batches(range(len(lengths)), lengths, batch_size, world_size, generator))
    groups = [_mega_batches(group, lengths, batch_size, world_size, generator) for group in (pictured, texts)]
    size = batch_size * world_size
    regular: list[list[int]] = []
    rest: list[int] = []
    for group in groups:
        order = _flat(group)
        batches = [order[start : start + size] for start in range(0, len(order), size)]
        regular += batches[:-1]
        rest += batches[-1]
    shuffled = [regular[index] for index in torch.randperm(len(regular), generator=generator).tolist()]
    return _flat([*shuffled, sorted(rest)])


def _mega_batches(
    members: Sequence[int], lengths: Sequence[int], batch_size: int, world_size: int, generator: torch.Generator | None
) -> list[list[int]]:
    """Shuffle members into mega-batches, and spread each one's samples over its batches by length."""
    shuffled = [members[index] for index in torch.randperm(len(members), generator=generator).tolist()]
    size = batch_size * world_size
    mega_batches: list[list[int]] = []
    for start in range(0, len(shuffled), size):
        longest_first = sorted(shuffled[start : start + size], key=lambda index: abs(lengths[index]), reverse=True)
        mega_batches.append(_flat(_spread(longest_first, lengths, world_size)))
    return mega_batches


def _spread(indices: Sequence[int], lengths: Sequence[int], batches: int) -> list[list[int]]:
    """Give each sample to the batch that is shortest so far; deal round-robin where the batches cannot be equal."""
    if len(indices) % batches:
        return [list(indices[start::batches]) for start in range(batches)]
    room = len(indices) // batches
    dealt: list[list[int]] = [[] for _ in range(batches)]
    sums = [0] * batches
    for index in indices:
        shortest = min((batch for batch in range(batches) if len(dealt[batch]) < room), key=lambda batch: sums[batch])
        dealt[shortest].append(index)
        sums[shortest] += abs(lengths[index])
    return dealt


def _flat(groups: Sequence[Sequence[int]]) -> list[int]:
    return [index for group in groups for index in group]


class ModalitySampler(Sampler[int]):
    """Draws samples in `modality_order`, another one each epoch.

    Args:
        lengths: Length of each sample, negative without a picture.
        batch_size: Samples in a batch.
        world_size: Devices times accumulation steps.
        seed: With the epoch's number, decides the order.
    """

    def __init__(self, lengths: Sequence[int], *, batch_size: int, world_size: int, seed: int = 42) -> None:
        self.lengths = list(lengths)
        self.batch_size, self.world_size, self.seed = batch_size, world_size, seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order is drawn next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        return iter(modality_order(self.lengths, self.batch_size, self.world_size, generator))
