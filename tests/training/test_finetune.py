"""Training runs end in checkpoints that load, learn what they are shown, and change only what they should."""

import json
import os

import pytest
import torch
from safetensors.torch import load_file
from tiny import REPLY, tiny_model, tiny_tokenizer, write_checkpoint, write_data

from emova_sdk.cli.app import run
from emova_sdk.components.emova.language.checkpoints import Checkpoint, load_model
from emova_sdk.components.emova.language.processing import EmovaProcessor
from emova_sdk.components.emova.language.reply import parse_reply
from emova_sdk.components.emova.language.templates import template
from emova_sdk.errors import ConfigError, InputError
from emova_sdk.training.data import ConversationDataset, collate, read_samples
from emova_sdk.training.finetune import choose_parameters, finetune, losses, parameter_groups, part_of
from emova_sdk.training.recipe import Recipe, load_recipe, recipe_names
from emova_sdk.training.speech_tokens import speech_token_ids

PUBLISHED_RECIPES = ["align", "align-72b", "prealign", "prealign-72b", "sft", "sft-72b", "sft-lora"]


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    folder = tmp_path_factory.mktemp("start")
    torch.manual_seed(0)
    return write_checkpoint(folder / "model"), write_data(folder / "data")


def recipe(start, output, **changes):
    model, data = start
    options = {
        "model": str(model),
        "output": str(output),
        "data": [str(data)],
        "images": str(data.parent),
        "precision": "fp32",
        "gradient_checkpointing": False,
        "speech_units": 8,
        "batch_size": 2,
        "learning_rate": 5e-3,
        "max_steps": 2,
        "workers": 0,
        "warmup": 0.0,
    }
    return Recipe.model_validate({**options, **changes})


def answer(folder, data, index=0):
    """What the trained checkpoint writes to the first sample, greedily."""
    checkpoint = Checkpoint.open(folder)
    model, processor = load_model(checkpoint), EmovaProcessor.from_checkpoint(checkpoint)
    sample = read_samples(data)[index]
    dataset = ConversationDataset(
        [sample.__class__(sample.id, sample.turns[:1], sample.images)],
        template("qwen2"),
        processor.tokenizer,
        image_id=checkpoint.config.image_token_index,
        image_processor=processor.image_processor,
        image_folder=data.parent,
    )
    batch = collate([dataset[0]], pad_id=0)
    header = processor.tokenizer("<|im_start|>assistant\n", return_tensors="pt").input_ids
    ids = torch.cat([batch.pop("input_ids"), header], dim=1)
    batch.pop("labels")
    batch["attention_mask"] = torch.ones_like(ids)
    stop = processor.tokenizer.convert_tokens_to_ids("<|im_end|>")
    new = model.generate(input_ids=ids, **batch, max_new_tokens=200, do_sample=False, eos_token_id=stop, pad_token_id=0)
    return processor.tokenizer.decode(new[0, ids.shape[1] :], skip_special_tokens=True).removeprefix("")


def test_a_tiny_model_overfits_and_its_reply_parses(start, tmp_path):
    folder = finetune(recipe(start, tmp_path / "out", max_steps=80, schedule="linear"))
    log = json.loads((folder / "training.json").read_text())["log"]
    losses = [entry["loss"] for entry in log if "loss" in entry]
    assert losses[-1] < 0.05 < losses[0]
    written = answer(folder, start[1])
    assert written.strip() == REPLY
    reply = parse_reply(written, units=8)
    assert (reply.text, reply.style.emotion, reply.units.ids.tolist()) == ("a red square", "happy", [3, 1, 2, 3])
    assert reply.problems == ()
    assert answer(folder, start[1], 1).strip() == "hello there"


# peft asks a model under a name that transformers has replaced
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_adapters_are_saved_alone_and_merged(start, tmp_path):
    lora = {"rank": 4, "alpha": 8, "dropout": 0.0}
    folder = finetune(recipe(start, tmp_path / "lora", language_model="lora", vision="frozen", lora=lora))
    adapter = load_file(folder / "adapter" / "adapter_model.safetensors")
    assert any("lora_A" in name for name in adapter)
    assert any("mm_projector" in name for name in adapter)
    assert not any("vision_tower" in name for name in adapter)
    before, after = weights(start[0]), weights(folder)
    changed = {
        part_of(name) for name in before if before[name].shape == after[name].shape and not before[name].equal(after[name])
    }
    assert changed == {"language_model", "projector"}
    assert before["model.language_model.norm.weight"].equal(after["model.language_model.norm.weight"])


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"language_model": "frozen", "vision": "frozen"}, {"projector"}),
        ({"projector": False, "vision": 1}, {"language_model", "vision"}),
        ({"gradient_checkpointing": True, "group_by_modality": False}, {"language_model", "projector", "vision"}),
    ],
)
def test_only_the_chosen_parts_change(start, tmp_path, changes, parts):
    folder = finetune(recipe(start, tmp_path / "out", speech_units=0, **changes))
    before, after = weights(start[0]), weights(folder)
    assert before.keys() == after.keys()
    moved = {name for name in before if not before[name].equal(after[name])}
    assert {part_of(name) for name in moved} == parts
    if changes.get("vision") == 1:
        assert not any(".blocks.0." in name or "patch_embed" in name for name in moved)
        assert any(".merger." in name for name in moved)


def weights(folder):
    return load_file(folder / "model.safetensors")


def test_each_part_has_its_learning_rate(start, tmp_path):
    rates = {"learning_rate": 1e-3, "projector_learning_rate": 2e-3, "vision_learning_rate": 3e-3, "weight_decay": 0.1}
    chosen = recipe(start, tmp_path, **rates)
    model = tiny_model(tiny_tokenizer())
    choose_parameters(model, chosen)
    groups = parameter_groups(model, chosen)
    assert {group["name"]: group["lr"] for group in groups} == {"language_model": 1e-3, "projector": 2e-3, "vision": 3e-3}
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    for group in groups:
        assert all((parameter.ndim > 1) == (group["weight_decay"] == 0.1) for parameter in group["params"])


def test_speech_tokens_are_part_of_the_trained_checkpoint(start, tmp_path):
    folder = finetune(recipe(start, tmp_path / "out", max_steps=1))
    checkpoint = Checkpoint.open(folder)
    assert len(set(speech_token_ids(checkpoint.tokenizer, units=8))) == 8
    assert load_model(checkpoint).get_input_embeddings().weight.shape[0] > max(speech_token_ids(checkpoint.tokenizer, units=8))


def test_a_run_goes_on_where_it_stopped(start, tmp_path):
    once = recipe(start, tmp_path / "out", max_steps=1, save_steps=1)
    finetune(once)
    folder = finetune(once.model_copy(update={"max_steps": 2}), resume=True)
    assert json.loads((folder / "training.json").read_text())["steps"] == 2


def test_the_log_tells_the_rate_of_each_part_and_the_losses_are_read_back(start, tmp_path):
    folder = finetune(
        recipe(start, tmp_path / "out", projector_learning_rate=1e-3, vision_learning_rate=1e-4, schedule="constant")
    )
    logged = [entry for entry in json.loads((folder / "training.json").read_text())["log"] if "loss" in entry]
    assert {name: value for name, value in logged[0].items() if name.startswith("learning_rate")} == {
        "learning_rate_language_model": 5e-3,
        "learning_rate_projector": 1e-3,
        "learning_rate_vision": 1e-4,
    }
    assert losses(folder) == [entry["loss"] for entry in logged]


def test_files_in_the_output_folder_are_kept_unless_forced(start, tmp_path):
    (tmp_path / "kept.txt").write_text("mine")
    once = recipe(start, tmp_path, max_steps=1)
    with pytest.raises(InputError, match="is not empty") as refused:
        finetune(once)
    assert "--force" in str(refused.value.hint)
    with pytest.raises(InputError, match="no checkpoint to go on from"):
        finetune(once, resume=True)
    assert [file.name for file in tmp_path.iterdir()] == ["kept.txt"]
    assert (finetune(once, force=True) / "model.safetensors").exists()


def test_a_recipe_that_trains_nothing_is_refused(start, tmp_path):
    nothing = recipe(start, tmp_path / "out", language_model="frozen", projector=False, vision="frozen")
    with pytest.raises(ConfigError, match="trains nothing"):
        finetune(nothing)


def test_pictures_without_a_tower_are_refused(start):
    with pytest.raises(InputError, match="sees none"):
        ConversationDataset(read_samples(start[1]), template("qwen2"), tiny_tokenizer(), image_id=0)


# --- recipes


def test_the_published_stages_come_with_the_package():
    assert recipe_names() == PUBLISHED_RECIPES


def load(name, *overrides):
    return load_recipe(name, overrides=["model=m", "output=o", 'data=["d.json"]', *overrides])


def test_the_published_stages_are_those_of_the_paper():
    prealign, align, sft = (load(name) for name in ("prealign", "align", "sft"))
    assert (prealign.template, prealign.language_model, prealign.vision, prealign.learning_rate) == (
        "plain",
        "frozen",
        "frozen",
        1e-3,
    )
    assert (align.language_model, align.vision, align.learning_rate, align.vision_learning_rate) == ("full", 16, 2e-5, None)
    assert (sft.vision, sft.learning_rate, sft.vision_learning_rate) == ("full", 2e-5, 2e-6)
    assert [stage.batch_size * stage.accumulation * 8 for stage in (prealign, align, sft)] == [256, 256, 128]
    assert [stage.group_by_modality for stage in (prealign, align, sft)] == [False, True, True]
    large = [load(f"{name}-72b") for name in ("prealign", "align", "sft")]
    assert [stage.learning_rate for stage in large] == [1e-3, 1e-5, 1e-5]
    assert [(stage.batch_size, stage.accumulation) for stage in large] == [(4, 8), (2, 16), (4, 4)]
    lora = load("sft-lora")
    assert (lora.language_model, lora.lora.rank, lora.lora.alpha, lora.learning_rate) == ("lora", 128, 256, 2e-4)
    for name in PUBLISHED_RECIPES:
        stage = load(name)
        assert (stage.epochs, stage.warmup, stage.schedule, stage.weight_decay, stage.max_length) == (
            1,
            0.03,
            "cosine",
            0,
            8192,
        )


def test_options_are_overridden_one_by_one(tmp_path):
    assert load("sft", "learning_rate=1e-6", "lora.rank=8", "vision=frozen").lora.rank == 8
    assert load("sft", "vision=frozen").vision == "frozen"
    path = tmp_path / "mine.toml"
    path.write_text('model = "a"\noutput = "b"\ndata = ["c"]\n')
    assert load_recipe(path).model == "a"


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("sft",), "`model`"),
        (("sft", "model=m", "output=o", 'data=["d"]', "learning_rates=1"), "`learning_rates`"),
        (("sft", "model=m", "output=o", 'data=["d"]', "learning_rate=-1"), "`learning_rate`"),
        (("sft", "model"), "key=value"),
        (("sft", "seed=1", "seed.a=2"), "not a table"),
        (("nothing",), "no recipe"),
    ],
)
def test_a_wrong_recipe_is_one_clear_error(arguments, match):
    with pytest.raises(ConfigError, match=match):
        load_recipe(arguments[0], overrides=arguments[1:])


@pytest.mark.parametrize(
    ("override", "message", "hint"),
    [
        ("presicion=fp32", "has no option `presicion`", "did you mean `precision`?"),
        ("lora.ranke=3", "has no option `lora.ranke`", "did you mean `lora.rank`?"),
        (
            "precision=float32",
            "option `precision` of recipe `sft` is `float32`: input should be 'bf16' or 'fp32'",
            "change `precision`",
        ),
        ("vision=some", "input should be 'full' or 'frozen' or input should be a valid integer", "change `vision`"),
    ],
)
def test_a_wrong_option_is_told_with_what_is_right(override, message, hint):
    with pytest.raises(ConfigError) as refused:
        load("sft", override)
    assert message in refused.value.message
    assert hint in str(refused.value.hint)


def test_no_more_workers_than_cores():
    assert 1 <= load("sft").workers <= min(4, os.cpu_count() or 1)


def test_a_file_that_is_not_toml_is_one_clear_error(tmp_path):
    path = tmp_path / "broken.toml"
    path.write_text("model = ")
    with pytest.raises(ConfigError, match="not TOML"):
        load_recipe(path)


def test_the_command_tells_the_losses_and_that_they_hardly_moved(start, tmp_path, capsys):
    pytest.importorskip("accelerate")
    chosen = recipe(start, tmp_path / "out", learning_rate=1e-9, schedule="constant").model_dump(
        exclude={"lora"}, exclude_none=True
    )
    options = [f"--set={name}={json.dumps(value)}" for name, value in chosen.items()]
    assert run(["train", "recipe", "sft", *options]) == 0
    told = capsys.readouterr()
    assert "a trained checkpoint" in told.out and "the loss went from" in told.out
    assert "warning: the loss hardly moved; `learning_rate` is 1e-09" in told.err
    assert run(["train", "recipe", "sft", *options]) == 1
    assert "is not empty" in capsys.readouterr().err
    assert run(["train", "recipe", "sft", *options, "--force", "--json"]) == 0
    loss = json.loads(capsys.readouterr().out)["loss"]
    assert loss["last"] == pytest.approx(loss["first"], rel=0.02)
