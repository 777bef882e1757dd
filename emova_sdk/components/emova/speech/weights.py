"""Strict loading of EMOVA's speech checkpoints: every tensor finds its place, or one `LoadError` names it.

The released files call tensors by the names of the research code; the tables here translate from our names to theirs.
Weight norm, in its old and its new spelling, is folded into a plain weight while loading.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from emova_sdk.errors import LoadError
from emova_sdk.models.spiral import SpiralTokenizer
from emova_sdk.models.vits import Vits

Renaming = tuple[str, str | Callable[[re.Match[str]], str]]

# Applied one after the other to our names; the result is the released name.
_SPIRAL: tuple[Renaming, ...] = (
    (r"^encoder\.blocks\.(\d+)\.conv\.", r"encoder.feature_encoder.block_modules.\1.conv.conv."),
    (r"^encoder\.blocks\.(\d+)\.pos_conv\.", r"encoder.feature_encoder.block_modules.\1.pos_conv.0."),
    (r"^encoder\.blocks\.", "encoder.feature_encoder.block_modules."),
    (r"^phones\.convs\.(\d+)\.", r"decoder.conv_layers.\1.conv.conv."),
    (r"^phones\.classifier\.", "decoder.decoder_layers.0."),
)
_VITS: tuple[Renaming, ...] = (
    (r"(norms?\d(?:\.\d+)?)\.weight$", r"\1.GAMMA"),
    (r"(norms?\d(?:\.\d+)?)\.bias$", r"\1.BETA"),
    (r"^unit_encoder\.layers\.(\d+)\.attention\.relative_([kv]).*", r"enc_p.encoder.attn_layers.\1.emb_rel_\2"),
    (r"^unit_encoder\.layers\.(\d+)\.attention\.([qkvo])[a-z]+\.", r"enc_p.encoder.attn_layers.\1.conv_\2."),
    (r"^unit_encoder\.layers\.(\d+)\.norm(\d)\.", r"enc_p.encoder.norm_layers_\2.\1."),
    (r"^unit_encoder\.layers\.(\d+)\.conv(\d)\.", r"enc_p.encoder.ffn_layers.\1.conv_\2."),
    (r"^unit_encoder\.", "enc_p."),
    (r"^durations\.affine\.", "dp.flows.0."),
    # Flips stand between the couplings, and sampling goes backwards.
    (r"^durations\.couplings\.(\d)\.", lambda found: f"dp.flows.{7 - 2 * int(found[1])}."),
    (r"^durations\.", "dp."),
    (r"\.depthwise\.", ".convs_sep."),
    (r"\.pointwise\.", ".convs_1x1."),
    (r"\.norms(\d)\.", r".norms_\1."),
    (r"^flow\.couplings\.(\d+)\.", lambda found: f"flow.flows.{2 * int(found[1])}."),
    (r"^generator\.", "dec."),
    (r"^posterior_encoder\.", "enc_q."),
    (r"^style_encoder\.spectral1\.", "enc_r.spectral.0.fc."),
    (r"^style_encoder\.spectral2\.", "enc_r.spectral.3.fc."),
    (r"^style_encoder\.temporal\.(\d)\.", r"enc_r.temporal.\1.conv1.conv."),
    (r"^style_encoder\.(query|key|value)\.", lambda found: f"enc_r.slf_attn.w_{found[1][0]}s."),
    (r"^style_encoder\.out\.", "enc_r.slf_attn.fc."),
    (r"^style_encoder\.fc\.", "enc_r.fc.fc."),
)
# Tensors of the files that no inference needs: constants, pre-training, the training side.
_SPIRAL_UNUSED = r"encoder\.(mask_emb$|wav2spec\.|target_|projector\.|predictor\.)|quantizer\.(_levels_np|_basis)$"
_VITS_UNUSED = r"emb_g\.|dp\.post_|dp\.flows\.1\."


def load_spiral(model: SpiralTokenizer, tensors: Mapping[str, Tensor], *, path: Path) -> None:
    """Fill a speech tokenizer; the phone head is left out where the model has none.

    Raises:
        LoadError: Naming the tensor that is missing, not expected or of another shape.
    """
    tensors, prefix = strip_prefix(tensors, "encoder.", "encoder.encoder.")
    unused = _SPIRAL_UNUSED if model.phones is not None else _SPIRAL_UNUSED + r"|decoder\."
    load_strictly(model, tensors, rules=_SPIRAL, unused=unused, path=path, prefix=prefix)
    levels = tensors.get("quantizer._levels_np")
    if levels is not None and levels.long().tolist() != list(model.config.fsq_levels):
        raise LoadError(
            f"`{path}` has the levels {levels.long().tolist()} in `{prefix}quantizer._levels_np`, "
            f"and its config has {list(model.config.fsq_levels)}",
            "use the config that belongs to the weights",
            path=str(path),
            tensor=f"{prefix}quantizer._levels_np",
        )


def load_vits(model: Vits, tensors: Mapping[str, Tensor], *, path: Path) -> None:
    """Fill a unit-to-speech network; the posterior encoder is left out where the model has none.

    Raises:
        LoadError: Naming the tensor that is missing, not expected or of another shape.
    """
    tensors, prefix = strip_prefix(tensors, "decoder.", "decoder.enc_p.")
    unused = _VITS_UNUSED if model.posterior_encoder is not None else _VITS_UNUSED + r"|enc_q\."
    load_strictly(model, tensors, rules=_vits_rules(model), unused=unused, path=path, prefix=prefix)


def _vits_rules(model: Vits) -> tuple[Renaming, ...]:
    kernels = len(model.config.resblock_kernel_sizes)

    def block(found: re.Match[str]) -> str:
        return f"generator.resblocks.{int(found[1]) * kernels + int(found[2])}."

    return ((r"^generator\.stages\.(\d+)\.(\d+)\.", block), *_VITS)


def released_tensors(model: SpiralTokenizer | Vits) -> dict[str, Tensor]:
    """Return a network's weights under their released names, weight norm folded: what the loaders here read again."""
    rules = _SPIRAL if isinstance(model, SpiralTokenizer) else _vits_rules(model)
    return {_released(name, rules): value for name, value in model.state_dict().items()}


def _released(name: str, rules: Sequence[Renaming]) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def strip_prefix(tensors: Mapping[str, Tensor], prefix: str, sign: str) -> tuple[dict[str, Tensor], str]:
    """Take the part of a combined checkpoint that `prefix` marks, if names that start with `sign` show that it is one.

    Returns:
        The tensors under their own names, and the prefix that was taken away (empty for a checkpoint of one model).
    """
    if not any(name.startswith(sign) for name in tensors):
        return dict(tensors), ""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}, prefix


def load_strictly(
    model: nn.Module, tensors: Mapping[str, Tensor], *, rules: Sequence[Renaming], unused: str, path: Path, prefix: str = ""
) -> None:
    """Fill every parameter of a model from released tensors.

    Args:
        model: Its parameters decide what has to be there.
        tensors: Released name to tensor, `prefix` taken off.
        rules: Regular expressions and replacements, from our names to released ones.
        unused: Regular expression of released names that may be present and are not needed.
        path: For messages.
        prefix: For messages.

    Raises:
        LoadError: Naming the tensor that is missing, not expected or of another shape.
    """
    folded = fold_weight_norm(tensors)
    state: dict[str, Tensor] = {}
    for name, parameter in model.state_dict().items():
        released = _released(name, rules)
        value = folded.pop(released, None)
        if value is None:
            raise _mismatch(path, prefix + released, "lacks the tensor")
        if value.shape != parameter.shape:
            found = f"(its shape is {tuple(value.shape)}, the config makes it {tuple(parameter.shape)})"
            raise _mismatch(path, prefix + released, "does not fit: tensor", found)
        state[name] = value.to(parameter.dtype)
    extra = [name for name in folded if not re.match(unused, name)]
    if extra:
        raise _mismatch(path, prefix + min(extra), "holds a tensor that the model does not have:")
    model.load_state_dict(state, assign=True)


def _mismatch(path: Path, tensor: str, what: str, more: str = "") -> LoadError:
    return LoadError(
        f"`{path}` {what} `{tensor}` {more}".rstrip(),
        "check that the file and its config.json belong together and to this slot",
        path=str(path),
        tensor=tensor,
    )


def fold_weight_norm(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Replace magnitudes and directions by weights, and lower-case norm names by the upper-case ones.

    w = g v / ||v||, the norm over the dimensions in which g has size 1. Both spellings of torch are known:
    ``weight_g``/``weight_v`` and ``parametrizations.weight.original0``/``original1``.
    """
    renamed = {_canonical(name): value for name, value in tensors.items()}
    folded: dict[str, Tensor] = {}
    for name, value in renamed.items():
        if name.endswith(".weight_g") and name[:-1] + "v" in renamed:
            continue
        magnitude = renamed.get(name[:-1] + "g") if name.endswith(".weight_v") else None
        if magnitude is None or magnitude.dim() != value.dim():
            folded[name] = value
            continue
        dims = [dim for dim, size in enumerate(magnitude.shape) if size == 1]
        direction = value.float()
        norm = torch.linalg.vector_norm(direction, dim=dims, keepdim=True)
        folded[name.removesuffix("_v")] = direction * (magnitude.float() / norm)
    return folded


def _canonical(name: str) -> str:
    name = re.sub(r"\.parametrizations\.weight\.original([01])$", lambda found: ".weight_" + "gv"[int(found[1])], name)
    return re.sub(r"\.(gamma|beta)$", lambda found: found[0].upper(), name)


def load_style_encoder(model: nn.Module, tensors: Mapping[str, Tensor], *, path: Path) -> None:
    """Fill the `style_encoder` of a module from a vocoder's checkpoint, passing over the rest of it.

    Raises:
        LoadError: Naming the tensor that is missing or of another shape.
    """
    load_strictly(model, tensors, rules=_VITS, unused=r"(?!enc_r\.)", path=path)
