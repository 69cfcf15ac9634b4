"""Preparing a model and its optimizer for the launched processes: alone, replicated (DDP) or sharded (FSDP2, ZeRO)."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType

from textgen.data.tokenization import tokenizer_fingerprint
from textgen.model.build import TrainableModel
from textgen.model.config import AdapterConfig
from textgen.model.contexts import evaluating
from textgen.model.layers import compile_blocks
from textgen.model.loss import ModelWithLoss
from textgen.run.changes import Files as InputFiles
from textgen.training.checkpoints import Checkpoints
from textgen.training.config import EngineConfig, TrainingConfig
from textgen.training.distributed import deepspeed_zero
from textgen.training.distributed.exact import broadcast_parameters
from textgen.training.distributed.processes import compute_dtype, precision_of
from textgen.training.distributed.sharding import full_state, is_sharded, reshard, unsharded
from textgen.training.optimizers import build_optimizer, evaluation_weights


@dataclass(frozen=True)
class PreparedModel:
    """A model and its optimizer, ready for training steps.

    Attributes:
        accelerator: this process's, from :func:`textgen.training.distributed.processes.start_process`.
        built: the model as :func:`textgen.model.build.build_model` returned it.
        training_model: the same model, wrapped for training steps: it returns the summed loss.
        optimizer: the optimizer, wrapped by Accelerate.
        exact: whether gradients are summed in a fixed order.
    """

    accelerator: Accelerator
    built: TrainableModel
    training_model: torch.nn.Module
    optimizer: Any
    exact: bool

    @property
    def model(self) -> Any:
        """The transformers or peft model, unwrapped."""
        return self.built.model

    @contextmanager
    def evaluation_weights(self) -> Iterator[None]:
        """Inside, :attr:`model` has the weights to evaluate, complete on every process."""
        with evaluation_weights(self.optimizer), unsharded(self.accelerator, self.training_model):
            yield

    def checkpoints(
        self,
        directory: Path,
        *,
        fingerprints: Mapping[str, str],
        keep: int,
        extra: Callable[[], Mapping[str, bytes]] = dict,
        inputs: Mapping[str, InputFiles] | None = None,
        on_full_disk: str = "stop",
    ) -> Checkpoints:
        """The checkpoints of this model and its optimizer.

        Args:
            directory: the run's ``checkpoints`` directory.
            fingerprints: what a resumed run must have in common with this one besides :meth:`fingerprints`.
            keep: number of recent checkpoints to keep in addition to the best.
            extra: returns the names and contents of more files to save in each.
            inputs: the files that the run reads, to name those that changed.
            on_full_disk: "stop" or "continue", as the flag says.
        """
        return Checkpoints(
            directory,
            self.model,
            self.optimizer.optimizer,
            {**fingerprints, **self.fingerprints()},
            keep=keep,
            scaler=self.accelerator.scaler,
            extra=extra,
            background=True,
            inputs=inputs or {},
            warn=self.accelerator.print if on_full_disk == "continue" else None,
        )

    def fingerprints(self) -> dict[str, str]:
        """What a resumed run must have in common with this one: base weights, tokenizer, precision and, if exact,
        threads."""
        found = {"model": self.built.base_fingerprint, "precision": precision_of(self.accelerator)}
        found["tokenizer"] = tokenizer_fingerprint(self.built.found.tokenizer)
        return found | ({"threads": str(torch.get_num_threads())} if self.exact else {})

    def save(self, directory: Path) -> None:
        """Write the model, or its adapters, with the tokenizer. All processes call it; the main one writes."""
        with evaluation_weights(self.optimizer):
            state = full_state(self.model)
            if self.accelerator.is_main_process:
                self.built.save(directory, state=state)


def prepare(
    accelerator: Accelerator,
    trainable: TrainableModel,
    training: TrainingConfig,
    engine: EngineConfig,
    adapters: AdapterConfig,
) -> PreparedModel:
    """Build the optimizer, wrap it and the model for the launched processes, and set training mode.

    Args:
        accelerator: this process's, from :func:`textgen.training.distributed.processes.start_process`.
        trainable: the model.
        training: optimizer settings.
        engine: whether to compile the model, and whether to sum gradients in a fixed order.
        adapters: adapter settings, which have the learning rate of the B matrices.

    Raises:
        UserError: the model has no layers to compile.
    """
    if engine.compile:
        compile_blocks(trainable.model)
    optimizer = build_optimizer(trainable.model, training, lora_plus_ratio=adapters.lora_plus_ratio)
    training_model, wrapped_optimizer = wrap(
        accelerator,
        ModelWithLoss(trainable.model),
        optimizer,
        max_grad_norm=training.max_grad_norm,
        exact=engine.exact,
    )
    training_model.train()
    return PreparedModel(accelerator, trainable, training_model, wrapped_optimizer, engine.exact)


def wrap(
    accelerator: Accelerator,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    max_grad_norm: float = 1.0,
    exact: bool = False,
) -> tuple[torch.nn.Module, Any]:
    """Wrap model and optimizer as the launch file says: replicated (DDP), sharded (FSDP2, DeepSpeed), or not at all.

    Args:
        accelerator: this process's, from :func:`textgen.training.distributed.processes.start_process`.
        model: a :class:`textgen.model.loss.ModelWithLoss`.
        optimizer: an optimizer of the model's parameters.
        max_grad_norm: the norm that steps clip to, which DeepSpeed needs in advance.
        exact: replicate the model without DDP, whose order of summation depends on the number of processes.
    """
    if exact:
        unwrapped = accelerator.prepare_model(model, evaluation_mode=True)
        broadcast_parameters(unwrapped)
        return unwrapped, accelerator.prepare_optimizer(optimizer)
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        deepspeed_zero.configure(accelerator, max_grad_norm=max_grad_norm)
        dtype = compute_dtype(accelerator)
        if dtype != torch.float32:
            model.forward = torch.autocast(accelerator.device.type, dtype)(model.forward)
    model, optimizer = accelerator.prepare(model, optimizer)
    if is_sharded(model):  # FSDP takes the first module that runs for the root, so run the real root first
        ids = torch.zeros(1, 2, dtype=torch.long, device=accelerator.device)
        with evaluating(model), torch.no_grad():
            model(ids, ids)
        reshard(model)  # the root would stay gathered, and a checkpoint be loaded into tensors that are then discarded
    return model, optimizer
