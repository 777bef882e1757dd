import torch

from emova_sdk.components.nano.language import Language
from emova_sdk.components.nano.network import NanoModel
from emova_sdk.models.qwen2_steps import Qwen2Steps

SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2}


def test_steps_equal_the_transformers_model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        language = Language(("a", "b"), 8)
        model = NanoModel.fresh(language, SIZES).eval()
        for weight in model.parameters():
            weight.data = torch.randn_like(weight) * (0.3 if weight.ndim == 2 else 0.5) + (weight.ndim == 1)
        ids = torch.randint(5, len(language), (1, 20))
    steps = Qwen2Steps(model.core.model.language_model.state_dict(), heads=4, shared=2)
    with torch.inference_mode():
        expected = model.core.lm_head(model.hidden(ids))[0]
        cache = []
        found = [steps(steps.embed[ids[0, :7]], cache)]
        found += [steps(steps.embed[ids[0, place : place + 1]], cache) for place in range(7, 20)]
    torch.testing.assert_close(torch.stack(found), expected[6:], atol=2e-4, rtol=1e-4)
