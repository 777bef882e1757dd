"""Training EMOVA: the published stages, in full or with adapters, on the Trainer of transformers.

`finetune` starts from any checkpoint the SDK loads and writes one it loads again. The stages differ in what is trained, on
what and how fast; that is a `Recipe`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from transformers import PrinterCallback, Trainer, TrainingArguments

from emova_sdk.components.emova.language.checkpoints import Checkpoint, find_checkpoint, load_model
from emova_sdk.components.emova.language.processing import EmovaProcessor
from emova_sdk.components.emova.language.templates import template
from emova_sdk.errors import ConfigError, InputError, MissingDependencyError
from emova_sdk.training.data import ConversationDataset, collate, read_samples
from emova_sdk.training.recipe import Recipe
from emova_sdk.training.sampling import ModalitySampler
from emova_sdk.training.speech_tokens import insert_speech_tokens

_BLOCK = re.compile(r"\.(?:blocks|layers)\.(\d+)\.")


def part_of(name: str) -> str:
    """Say to which part a parameter belongs: ``language_model``, ``projector`` or ``vision``."""
    if "vision_tower" in name:
        return "vision"
    return "projector" if "mm_projector" in name or "image_newline" in name else "language_model"


def choose_parameters(model: nn.Module, recipe: Recipe) -> None:
    """Set which parameters of a model are trained; adapters, where there are any, always are."""
    for name, parameter in model.named_parameters():
        part = part_of(name)
        if part == "vision":
            trained = _vision_trained(name, recipe.vision)
        elif part == "projector":
            trained = recipe.projector and ".original_module." not in name
        else:
            trained = recipe.language_model == "full" or "lora_" in name
        parameter.requires_grad_(trained)


def _vision_trained(name: str, choice: str | int) -> bool:
    if isinstance(choice, str):
        return choice == "full"
    block = _BLOCK.search(name)
    return int(block[1]) >= choice if block else ".merger." in name


def parameter_groups(model: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Group the trained parameters by part, each with its learning rate, for an optimiser."""
    rates = {
        "language_model": recipe.learning_rate,
        "projector": recipe.projector_learning_rate or recipe.learning_rate,
        "vision": recipe.vision_learning_rate or recipe.learning_rate,
    }
    grouped: dict[tuple[str, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decay = recipe.weight_decay if parameter.ndim > 1 else 0.0
            grouped.setdefault((part_of(name), decay), []).append(parameter)
    if not grouped:
        raise ConfigError("the recipe trains nothing", "let it train the language model, the projector or the vision tower")
    return [
        {"params": parameters, "lr": rates[part], "weight_decay": decay, "name": part}
        for (part, decay), parameters in grouped.items()
    ]


class EmovaTrainer(Trainer):
    """The Trainer of transformers with a learning rate for each part and batches of one modality.

    Args:
        recipe: What is trained, and how.
        model: An `EmovaForConditionalGeneration`, with or without adapters.
        args: Arguments of the Trainer.
        train_dataset: A `ConversationDataset`.
        **options: Further arguments of the Trainer.
    """

    def __init__(self, recipe: Recipe, *, model: Any, args: TrainingArguments, train_dataset: Any, **options: Any) -> None:
        self.recipe = recipe
        super().__init__(model=model, args=args, train_dataset=train_dataset, **options)
        self.remove_callback(PrinterCallback)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Make AdamW with one group of parameters for each part."""
        if self.optimizer is None:
            model = self.model if model is None else model
            kind, options = self.get_optimizer_cls_and_kwargs(self.args, model)
            self.optimizer = kind(parameter_groups(model, self.recipe), **options)
        return cast("torch.optim.Optimizer", self.optimizer)

    def log(self, logs: dict[str, float], *arguments: Any, **options: Any) -> None:
        """Log the learning rate of each part, in place of the first group's."""
        if logs.pop("learning_rate", None) is not None and self.optimizer is not None:
            groups = cast("torch.optim.Optimizer", self.optimizer).param_groups
            logs |= {f"learning_rate_{group.get('name', 'all')}": float(group["lr"]) for group in groups}
        super().log(logs, *arguments, **options)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        dataset = self.train_dataset if train_dataset is None else train_dataset
        if not self.recipe.group_by_modality:
            return super()._get_train_sampler(dataset)
        world = self.args.world_size * self.args.gradient_accumulation_steps
        lengths = cast("ConversationDataset", dataset).lengths
        return ModalitySampler(lengths, batch_size=self.args.train_batch_size, world_size=world, seed=self.args.seed)


def finetune(recipe: Recipe, *, progress: bool = False, resume: bool = False, force: bool = False) -> Path:
    """Train as a recipe says.

    Args:
        recipe: What is trained, on what, and how.
        progress: Whether to show a progress bar.
        resume: Whether to go on from the last checkpoint in the output folder.
        force: Whether to write into an output folder that holds files already.

    Returns:
        The output folder: a checkpoint the SDK loads, ``training.json`` with the losses, and, for adapters, the folder
        ``adapter`` with them alone.

    Raises:
        ConfigError: The recipe trains nothing.
        InputError: The data are not of the published format; the output folder holds files, or nothing to go on from.
        LoadError: The checkpoint cannot be loaded.
        MissingDependencyError: A package that training needs is not installed.
    """
    _check_output(Path(recipe.output), resume=resume, force=force)
    samples = read_samples(recipe.data)
    checkpoint = Checkpoint.open(find_checkpoint(recipe.model))
    torch.manual_seed(recipe.seed)
    model: Any = load_model(checkpoint, dtype=_dtype(recipe))
    if recipe.speech_units:
        insert_speech_tokens(checkpoint.tokenizer, model, units=recipe.speech_units)
    processor = EmovaProcessor.from_checkpoint(checkpoint)
    dataset = ConversationDataset(
        samples,
        template(recipe.template),
        processor.tokenizer,
        image_id=checkpoint.config.image_token_index,
        image_processor=processor.image_processor,
        image_folder=recipe.images,
        max_length=recipe.max_length,
    )
    model.train()
    model.config.get_text_config().use_cache = False
    if recipe.gradient_checkpointing:
        enable = getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)
        enable({"use_reentrant": False})
    if recipe.language_model == "lora":
        model = _with_adapters(model, recipe)
    choose_parameters(model, recipe)
    trainer = EmovaTrainer(
        recipe,
        model=model,
        args=_arguments(recipe, len(samples), progress=progress),
        train_dataset=dataset,
        data_collator=partial(collate, pad_id=_pad_id(processor.tokenizer), side=checkpoint.config.tokenizer_padding_side),
    )
    trainer.train(resume_from_checkpoint=resume)
    return _save(trainer, processor, recipe)


def losses(folder: Path) -> list[float]:
    """The losses of a run, from its ``training.json``; the last is the mean over the steps since the one before."""
    log = json.loads((folder / "training.json").read_text(encoding="utf-8"))["log"]
    return [float(entry["loss"]) for entry in log if "loss" in entry]


def _check_output(output: Path, *, resume: bool, force: bool) -> None:
    if int(os.environ.get("RANK", "0")):  # the first process has looked, and may have begun to write
        return
    if resume and not any(output.glob("checkpoint-*")):
        raise InputError(f"`{output}` holds no checkpoint to go on from", "start without `resume`")
    if not (resume or force) and output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(
            f"the output folder `{output}` is not empty",
            "choose another `output`, go on with --resume, or overwrite with --force",
        )


def _dtype(recipe: Recipe) -> torch.dtype:
    """Weights are kept in bfloat16 only where their updates are not: under adapters, or by DeepSpeed's float32 copies."""
    halved = recipe.language_model == "lora" or recipe.deepspeed is not None
    return torch.bfloat16 if recipe.precision == "bf16" and halved else torch.float32


def _pad_id(tokenizer: Any) -> int:
    return int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id or 0)


def _linear_names(model: nn.Module) -> Iterator[str]:
    """Name the linear layers of the language model, those of its head left out."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and part_of(name) == "language_model" and not name.endswith("lm_head"):
            yield name


def _with_adapters(model: Any, recipe: Recipe) -> Any:
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise MissingDependencyError(
            "adapters need the package `peft`", 'install it with `pip install "emova-sdk[train]"`', package="peft"
        ) from error
    lora = LoraConfig(
        r=recipe.lora.rank,
        lora_alpha=cast("int", recipe.lora.alpha),
        lora_dropout=recipe.lora.dropout,
        bias="none",
        target_modules=list(_linear_names(model)),
        modules_to_save=["mm_projector"] if recipe.projector and model.model.mm_projector is not None else None,
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, lora)


def _arguments(recipe: Recipe, samples: int, *, progress: bool) -> TrainingArguments:
    updates = recipe.max_steps or -(-samples // (recipe.batch_size * recipe.accumulation)) * recipe.epochs
    return TrainingArguments(
        output_dir=recipe.output,
        per_device_train_batch_size=recipe.batch_size,
        gradient_accumulation_steps=recipe.accumulation,
        num_train_epochs=recipe.epochs,
        max_steps=recipe.max_steps or -1,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type=recipe.schedule,
        warmup_steps=recipe.warmup,
        weight_decay=recipe.weight_decay,
        bf16=recipe.precision == "bf16",
        save_steps=recipe.save_steps,
        save_total_limit=recipe.keep,
        logging_steps=1 if updates <= 100 else 10,
        deepspeed=recipe.deepspeed,
        dataloader_num_workers=recipe.workers,
        dataloader_pin_memory=torch.cuda.is_available(),
        remove_unused_columns=False,
        report_to="none",
        disable_tqdm=not progress,
        seed=recipe.seed,
    )


def _save(trainer: EmovaTrainer, processor: Any, recipe: Recipe) -> Path:
    """Write the trained checkpoint beside the Trainer's own, then put its files in place."""
    output = Path(recipe.output)
    model: Any = trainer.accelerator.unwrap_model(trainer.model)
    written = output / ".saving"
    shutil.rmtree(written, ignore_errors=True)
    if recipe.language_model == "lora":
        model.save_pretrained(written / "adapter")
        model = model.merge_and_unload()
    model.config.get_text_config().use_cache = True
    model.save_pretrained(written)
    processor.save_pretrained(written)
    record = {"recipe": recipe.model_dump(), "log": trainer.state.log_history, "steps": trainer.state.global_step}
    (written / "training.json").write_text(json.dumps(record, indent=1, default=str), encoding="utf-8")
    for path in written.iterdir():
        target = output / path.name
        if target.is_dir():
            shutil.rmtree(target)
        path.replace(target)
    written.rmdir()
    return output
