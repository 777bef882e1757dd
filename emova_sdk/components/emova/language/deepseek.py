"""DeepSeekMoE with plain multi-head attention, as a language model of transformers."""

# transformers types its own attributes loosely and its overrides are looser still.
# pyright: reportIncompatibleVariableOverride=false, reportIncompatibleMethodOverride=false, reportPrivateUsage=false
# pyright: reportAssignmentType=false, reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from torch import nn
from transformers import LlamaModel
from transformers import initialization as init

from emova_sdk.components.emova.language.configuration import DeepseekMoeConfig
from emova_sdk.models.deepseek_moe import DeepseekMoe, Gate


class DeepseekMoeModel(LlamaModel):
    """Llama whose MLPs, after the first layers, are mixtures of experts."""

    config: DeepseekMoeConfig
    config_class = DeepseekMoeConfig

    def __init__(self, config: DeepseekMoeConfig) -> None:
        super().__init__(config)
        for index, layer in enumerate(self.layers):
            if index >= config.first_k_dense_replace and index % config.moe_layer_freq == 0:
                layer.mlp = _experts(config)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, Gate):
            init.normal_(module.weight, std=self.config.initializer_range)


def _experts(config: DeepseekMoeConfig) -> DeepseekMoe:
    gate = Gate(
        config.hidden_size,
        config.n_routed_experts,
        config.num_experts_per_tok,
        renormalise=config.norm_topk_prob,
        scale=config.routed_scaling_factor,
        balance=config.aux_loss_alpha,
        per_sequence=config.seq_aux,
    )
    return DeepseekMoe(
        config.hidden_size,
        config.moe_intermediate_size,
        experts=config.n_routed_experts,
        shared_experts=config.n_shared_experts,
        gate=gate,
    )
