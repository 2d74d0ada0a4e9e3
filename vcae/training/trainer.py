"""The training loop: one, explicit, for every stage.

It ends after a number of steps or of minutes, writes a checkpoint every few minutes, at the end and when it
is stopped (SIGTERM, Ctrl-C), and continues from it exactly: all randomness of a step comes from (seed, step).
Processes that `torchrun` has started draw the same batch, and each trains on its part of it.
What goes wrong on the way ends in one line that says what to do, and leaves the last checkpoint
(`vcae.training.guards`).
"""

import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import torch
from rich.console import Console
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

import vcae
from vcae.files import OutputError, load_tensors, save_tensors
from vcae.inference.checkpoint import CheckpointError, fingerprint, save
from vcae.training.checkpoint import under
from vcae.training.config import BUDGET_AND_LOGGING, TrainConfig
from vcae.training.devices import Processes, fabric_of, name_of
from vcae.training.ema import EMA
from vcae.training.guards import FiniteWatch, TrainingError, check_folder, is_out_of_memory
from vcae.training.progress import ProgressLine, value_of
from vcae.training.recorded import RecordedStep
from vcae.training.run import Run, as_json, differences, git_revision, write_config
from vcae.training.stages.base import Phase, Stage
from vcae.training.tracking import Trackers

FORMAT = 1
"""Version of a checkpoint's layout. Files without a version are of format 1."""
_MOST_NON_FINITE = 100  # steps in a row, after which a run stops
_BATCHES_KEPT = 3  # of steps that are not finite


class Result(NamedTuple):
    """What a run came to. steps, hours (of speech), minutes: of the stage in all, over all resumptions.

    new_steps: made by this run. finished: the budget is spent. validation: losses by name after the last
    step; empty for a run that was stopped.
    """

    steps: int
    hours: float
    minutes: float
    new_steps: int
    finished: bool
    validation: dict[str, float]


class Trainer:
    """Trains one stage in a folder, where a later run continues from `STAGE.ckpt`.

    `STAGE.safetensors` is the product, with averaged weights, `config.json` describes the run, and
    `tensorboard/STAGE` holds its curves. Raises ValueError where neither `steps` nor `minutes` is given.
    """

    def __init__(
        self,
        stage: Stage[Any, Any],
        folder: Path,
        config: TrainConfig,
        validation: Stage[Any, Any] | None = None,
        run: Run | None = None,
    ) -> None:
        if config.steps is None and config.minutes is None:
            raise ValueError("training needs an end: give steps or minutes")
        self.config = config
        self.folder = folder
        self.fabric = fabric_of(config.precision)
        self.processes = Processes(self.fabric, stage.name)
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True  # batches are all of one shape
        self.device = self.fabric.device
        on_gpu = self.device.type == "cuda"
        self.rng = torch.Generator(self.device)
        self.stage = stage.to(self.device)
        self.validation_batches = (validation or stage).batch
        discriminator = set(stage.discriminator.parameters())
        self.generator_parameters = [
            p for p in stage.parameters() if p.requires_grad and p not in discriminator
        ]
        self.discriminator_parameters = [p for p in stage.discriminator.parameters() if p.requires_grad]
        self.optimisers = [
            torch.optim.AdamW(
                [{"params": parameters, "factor": factor}],
                torch.tensor(config.learning_rate, device=self.device),  # so that a recorded step reads it
                betas=config.betas,
                weight_decay=config.weight_decay,
                fused=True,
                capturable=on_gpu,
            )
            for parameters, factor in (
                (self.generator_parameters, 1.0),
                (self.discriminator_parameters, config.discriminator_rate),
            )
            if parameters
        ]
        self.ema = EMA(stage.averaged, config.ema)
        record = config.record and on_gpu and self.processes.number == 1
        self.recorded = RecordedStep(self._train_step) if record else None
        self.constant = fingerprint(*stage.constant)
        trained, others = dict(stage.named_parameters()), self._weights(constant=False)
        # Buffers that follow the data of this process, such as means in normalising layers.
        self._tracked = [t for n, t in others.items() if n not in trained and t.is_floating_point()]
        self.step = 0
        self.elapsed = 0.0  # seconds
        self.hours = 0.0  # of speech
        self.started: dict[str, int] = {}
        self.decay_from = config.decay
        self.stopping = False
        self.lowest = math.inf  # weighed validation loss
        self.waited = 0  # validations since
        self.console = Console(stderr=True, quiet=not self.processes.first)
        self.trackers = Trackers(
            config.trackers if self.processes.first else (), folder, stage.name, self.console
        )
        self.run_description = run or Run()
        self.git = git_revision()
        self.data = stage.sampler.bank.fingerprint
        self.watch = FiniteWatch(self.device)
        self._batches_kept = 0
        self._resumed: tuple[int, dict[str, Any]] | None = None  # the step, and the notes of that run

    @property
    def checkpoint(self) -> Path:
        """The file that a later run continues from."""
        return self.folder / f"{self.stage.name}.ckpt"

    @property
    def progress(self) -> float:
        """Spent share of the budget, 0 to 1, by steps or minutes, whichever is further; 1 to end early."""
        steps, minutes, patience = self.config.steps, self.config.minutes, self.config.patience
        if patience is not None and self.waited >= patience:
            return 1.0
        by_steps = 0.0 if steps is None else self.step / steps if steps else 1.0
        by_time = 0.0 if minutes is None else self.elapsed / 60 / minutes if minutes else 1.0
        return min(1.0, max(by_steps, by_time))

    def run(self) -> Result:
        """Train to the end of the budget or until stopped, and write checkpoint and product.

        Raises CheckpointError where the folder's checkpoint is of other networks, settings, data or versions;
        OutputError where the folder cannot be written or the disk is full; TrainingError where a batch does
        not fit into memory, steps are not finite, a tracker is not installed or another process has ended.
        """
        check_folder(self.folder, self._checkpoint_bytes())
        if self.checkpoint.exists():
            self.resume()
        if self.processes.first:
            write_config(self.folder, self.stage.name, self.notes())
        first, validation = self.step, dict[str, float]()
        logs = self.folder / "tensorboard" / self.stage.name
        self.stage.train()
        try:
            with (
                self._curves(logs) as writer,
                ProgressLine(self.console, self.stage.name) as line,
                self._stop_signals(),
            ):
                last_save = clock = time.monotonic()
                stopping = self.stopping
                while self.progress < 1 and not stopping:
                    result, seconds = self.advance()
                    now = time.monotonic()
                    self.elapsed, clock = self.elapsed + now - clock, now
                    line.update(self.step, self.progress, result, seconds)
                    if self.step % self.config.log_steps == 0:
                        self._log(writer, "train", result)
                    if self.step % self.config.validate_steps == 0:
                        validation = self.validate(writer)
                    if now - last_save > 60 * self.config.checkpoint_minutes:
                        self._save_if_there_is_room()
                        last_save = time.monotonic()
                    # What ends a run or starts a milestone must be the same in all processes.
                    self.elapsed, waited, stop = self.processes.agree(
                        self.elapsed, self.waited, self.stopping
                    )
                    self.waited, stopping = int(waited), bool(stop)
                self.stopping = stopping
                self._refuse_non_finite()
                self.save()  # first, since whoever asked to stop may not wait long
                if self.step % self.config.validate_steps and not self.stopping:
                    validation = self.validate(writer)
                self.trackers.finish()
                self.processes.agree()  # that the files are written
        except OSError as error:  # of the curves
            with suppress(OutputError):
                self.save()
            raise OutputError(
                f"{logs}: cannot be written ({error.strerror or error}); make room, then run the same command"
                " to continue"
            ) from None
        return Result(
            steps=self.step,
            hours=self.hours,
            minutes=self.elapsed / 60,
            new_steps=self.step - first,
            finished=self.progress >= 1,
            validation={} if self.stopping else validation,
        )

    def advance(self) -> tuple[dict[str, Tensor], float]:
        """Make one step: its losses by name, and the seconds of speech in it. Raises TrainingError."""
        result: dict[str, Tensor] | None = None
        try:
            batch, phase = self._next()
            self._set_rates()
            self.stage.before_step(phase)
            result = (self.recorded or self._train_step)(batch, phase)
            self.processes.average(self._tracked)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        if result is None:  # out here, since the exception holds what the step has allocated
            raise self._out_of_memory()
        self.ema.update(self.step)
        self.watch.update(self.step, [x for n, x in result.items() if n.endswith("gradient")])
        self.step += 1
        seconds = self.processes.number * batch.source.numel() / self.stage.log_mel.config.sample_rate
        self.hours += seconds / 3600
        if self.device.type == "cpu" or self.step % self.config.log_steps == 0:
            self._refuse_non_finite()
        return result, seconds

    def _out_of_memory(self) -> TrainingError:
        """The error, with half, a quarter, ... of the batch, whichever is the first to fit."""
        sampler: Any = getattr(self.stage.sampler, "sampler", self.stage.sampler)
        size = fits = sampler.config.batch_size
        self.recorded = None  # and its memory
        self.processes.leave()
        while fits > 1:
            fits //= 2
            sampler.config = replace(sampler.config, batch_size=fits)
            for optimiser in self.optimisers:
                optimiser.zero_grad(set_to_none=True)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            try:
                self._train_step(*self._next())  # the weights are not saved
            except (RuntimeError, MemoryError, TrainingError):  # the last: cannot be shared by the processes
                continue
            remedy = f"a batch of {fits} fits: set batch_size of its sampler to {fits}"
            break
        else:
            remedy = "not even a batch of 1 fits: make the networks smaller"
        return TrainingError(
            f"{self.stage.name}: out of memory at step {self.step}, with a batch of {size} on"
            f" {name_of(self.device)}; {remedy}"
        )

    def _refuse_non_finite(self) -> None:
        """Keep the batch of a step that was not finite; raise TrainingError if the run is to stop."""
        found = self.watch.look()
        if found is None:
            return
        what = (
            f"{self.stage.name}: steps without a finite gradient: {found.number}, the first is {found.first}"
        )
        if self._batches_kept < _BATCHES_KEPT:
            path = self.folder / f"{self.stage.name}-step-{found.first}.batch.safetensors"
            about = {"stage": self.stage.name, "step": found.first, "seed": self.config.seed}
            save_tensors(path, self._draw(found.first)._asdict(), about)
            self._batches_kept += 1
            what += f", whose batch is in {path}"
        if self.config.non_finite == "skip" and found.in_a_row < _MOST_NON_FINITE:
            self.console.print(f"{what}; left out", highlight=False, soft_wrap=True)
            return
        with suppress(TrainingError):
            self.save()
        remedy = (
            "" if self.config.non_finite == "skip" else ", or set non_finite to skip to leave such steps out"
        )
        raise TrainingError(f"{what}; stopped: lower learning_rate{remedy}")

    def _next(self) -> tuple[Any, Phase]:
        """The batch and the phase of this step, all randomness seeded by (seed, step)."""
        for name, at in {**self.stage.milestones, "decay": self.config.decay}.items():
            if name not in self.started and self.progress >= at:
                self.started[name] = self.step
                if name == "decay":
                    self.decay_from = self.progress
        batch = self.processes.share(self._draw(self.step))
        if not self.processes.first:  # no two processes perturb their parts alike
            _seed(self.rng, self.config.seed + self.processes.rank, self.step)
        return batch, Phase(self.progress, frozenset(self.started), self.rng)

    def _draw(self, step: int) -> Any:
        """The batch of a step, for all processes together. Raises ShardError."""
        _seed(self.rng, self.config.seed, step)
        self.stage.sampler.seek(step)
        return self.stage.batch(self.rng)

    def _train_step(self, batch: Any, phase: Phase) -> dict[str, Tensor]:
        """One step of the discriminator, once it has started, then one of the generator.

        Nothing in here waits for a result of the GPU, so that the GPU never waits for the processor.
        """
        stage = self.stage
        with self.fabric.autocast():
            out = stage.generate(batch, phase)
        result: dict[str, Tensor] = {}
        if "discriminator" in phase.started:
            with self.fabric.autocast():
                result = stage.discriminator_losses(out, phase)
            norm = self._descend(result, self.optimisers[1], self.discriminator_parameters)
            result = result | {"discriminator_gradient": norm}
        for p in self.discriminator_parameters:
            p.requires_grad_(False)  # the generator's step needs no gradient of the weights
        with self.fabric.autocast():
            generator_losses = stage.generator_losses(out, phase)
        result = result | generator_losses
        result["gradient"] = self._descend(generator_losses, self.optimisers[0], self.generator_parameters)
        for p in self.discriminator_parameters:
            p.requires_grad_(True)
        return result

    def _set_rates(self) -> None:
        """Set the learning rates of generator and discriminator for this step."""
        rate = self.config.learning_rate * self.rate_factor
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"].fill_(group["factor"] * rate)

    def _descend(
        self,
        losses: dict[str, Tensor],
        optimiser: torch.optim.Optimizer,
        parameters: list[nn.Parameter],
    ) -> Tensor:
        """Weigh, back-propagate, clip, step; the gradient's norm."""
        optimiser.zero_grad(set_to_none=True)
        weights = self.stage.loss_weights
        terms = [weights[n] * x for n, x in losses.items() if n in weights]
        torch.stack([t.float() for t in terms]).sum().backward()
        with_gradient = [p for p in parameters if p.grad is not None]
        self.processes.average([p.grad for p in with_gradient if p.grad is not None])
        norm = nn.utils.clip_grad_norm_(with_gradient, self.config.clip, error_if_nonfinite=False)
        optimiser.found_inf = (~norm.isfinite()).float()  # type: ignore[attr-defined]  # then no step is made
        optimiser.step()
        return norm

    @property
    def rate_factor(self) -> float:
        """The learning rate of this step as a share of its peak: warm-up, constant, then linear decay."""
        factor = min(1.0, (self.step + 1) / max(self.config.warm_up, 1))
        if "decay" in self.started:
            factor *= min(1.0, (1 - self.progress) / max(1 - self.decay_from, 1e-6))
        return factor

    @torch.no_grad()
    def validate(self, writer: SummaryWriter | None) -> dict[str, float]:
        """Losses of the averaged weights on fixed batches; logs them, with pictures and sounds of one.

        Under `patience`, writes the product if their weighed sum is the lowest so far. Only the first process
        validates.
        """
        totals: dict[str, float] = {}
        if not self.processes.first:
            return totals
        outside = torch.get_rng_state()
        self.stage.eval()
        with self.ema.applied():
            for k in range(self.config.validate_batches):
                _seed(self.rng, self.config.seed, -1 - k)
                batch = self.validation_batches(self.rng)
                phase = Phase(self.progress, frozenset(self.started), self.rng)
                with self.fabric.autocast():
                    out = self.stage.generate(batch, phase)
                    result = self.stage.generator_losses(out, phase)
                for name, x in result.items():
                    totals[name] = totals.get(name, 0.0) + value_of(x) / self.config.validate_batches
        self.stage.train()
        torch.set_rng_state(outside)
        self._log(writer, "validation", totals)
        assert writer is not None  # noqa: S101 -- in the first process
        for name, mel in self.stage.pictures(out).items():
            writer.add_image(name, _picture(mel), self.step)
        for name, wav in self.stage.sounds(out).items():
            sample_rate = self.stage.log_mel.config.sample_rate
            writer.add_audio(name, wav.float().cpu().unsqueeze(0).clamp(-1, 1), self.step, sample_rate)
        shown = "  ".join(f"{n} {x:.3f}" for n, x in totals.items())
        self.console.print(f"{self.stage.name} {self.step}: validation  {shown}", highlight=False)
        loss = sum(self.stage.loss_weights.get(n, 0.0) * x for n, x in totals.items())
        self.waited = 0 if loss < self.lowest else self.waited + 1
        self.lowest = min(self.lowest, loss)
        if self.config.patience is not None and not self.waited:
            self._save_product()
        return totals

    @contextmanager
    def _curves(self, folder: Path) -> Iterator[SummaryWriter | None]:
        """Where curves go; None in all processes but the first."""
        if not self.processes.first:
            yield None
            return
        self.trackers.settings(self.settings)
        with SummaryWriter(str(folder), purge_step=self.step) as writer:
            yield writer

    def _log(self, writer: SummaryWriter | None, kind: str, losses: dict[str, Any]) -> None:
        if writer is None:
            return
        values = {f"{kind}/{name}": value_of(x) for name, x in losses.items()}
        values["learning_rate"] = self.config.learning_rate * self.rate_factor
        for name, value in values.items():
            writer.add_scalar(name, value, self.step)
        self.trackers.log(values, self.step)

    @property
    def settings(self) -> dict[str, Any]:
        """All that is set for this stage, as JSON: networks, stage, sampler and training."""
        return as_json(self.stage.configs | {"training": self.config})

    def notes(self) -> dict[str, Any]:
        """What the files say of this run: settings, versions, data, device, budget spent, and all phases.

        A run that makes no step gives the notes of the run that it resumed.
        """
        if self._resumed and self._resumed[0] == self.step:
            return self._resumed[1]
        made: dict[str, Any] = {
            "vcae": vcae.__version__,
            "git": self.git,
            "data": self.data,
            "seed": self.config.seed,
            "device": name_of(self.device),
            **({"processes": self.processes.number} if self.processes.number > 1 else {}),
            "steps": self.step,
            "hours": round(self.hours, 3),
            "minutes": round(self.elapsed / 60, 1),
        }
        run = self.run_description
        phase: dict[str, Any] = {"stage": self.stage.name, **made, "settings": self.settings}
        if run.teachers:
            phase["teachers"] = run.teachers
        run_config = {"recipe": as_json(run.recipe), **self.settings}
        return {**made, "run_config": run_config, "phases": [*run.started_from, phase]}

    def _checkpoint_bytes(self) -> int:
        """Room that a checkpoint needs: weights, their averages, two moments of each trained weight."""
        trained = sum(p.numel() for p in (*self.generator_parameters, *self.discriminator_parameters))
        weights = sum(t.numel() for t in self._weights(constant=False).values())
        return 4 * (2 * trained + weights + sum(t.numel() for t in self.ema.averages.values()))

    def _save_if_there_is_room(self) -> None:
        """Save, or say why not: training goes on, and the last checkpoint is there."""
        try:
            self.save()
        except OutputError as error:
            minutes = f"{self.config.checkpoint_minutes:g} minutes"
            self.console.print(f"{error}; tried again in {minutes}", highlight=False, soft_wrap=True)

    def save(self) -> None:
        """Write the checkpoint, and the averaged product beside it, in the first process.

        Raises OutputError, and TrainingError for weights that are not finite; then the last checkpoint stays.
        """
        weights = self._weights(constant=False)
        if not all(t.isfinite().all() for t in weights.values() if t.is_floating_point()):
            raise TrainingError(
                f"{self.stage.name}: weights are not finite at step {self.step}, and were not saved; lower"
                f" learning_rate, and continue from an earlier {self.checkpoint.name}"
            )
        if not self.processes.first:
            return
        tensors = {f"stage.{n}": t for n, t in weights.items()}
        tensors |= {f"ema.{n}": t for n, t in self.ema.averages.items()}
        for k, optimiser in enumerate(self.optimisers):
            for i, state in optimiser.state_dict()["state"].items():
                tensors |= {f"optimiser.{k}.{i}.{n}": t for n, t in state.items()}
        notes = self.notes()
        about = {
            "format": FORMAT,
            "step": self.step,
            "elapsed": self.elapsed,
            "hours": self.hours,
            "started": self.started,
            "decay_from": self.decay_from,
            "lowest": self.lowest,
            "waited": self.waited,
            "constant": self.constant,
            "notes": notes,
        }
        save_tensors(self.checkpoint, tensors, about)
        write_config(self.folder, self.stage.name, notes)
        if self.config.patience is None:
            self._save_product()

    def _save_product(self) -> None:
        with self.ema.applied():
            for name, model in self.stage.product.items():
                save(self.folder / f"{name}.safetensors", model, self.notes())

    def _weights(self, constant: bool) -> dict[str, Tensor]:
        """The tensors of the stage that never change, or all others, by name."""
        names = {id(module): name for name, module in self.stage.named_modules()}
        prefixes = tuple(f"{names[id(module)]}." for module in self.stage.constant)
        return {n: t for n, t in self.stage.state_dict().items() if n.startswith(prefixes) == constant}

    def resume(self) -> None:
        """Continue from the checkpoint. Raises CheckpointError for other networks, settings or data."""
        tensors, about = load_tensors(self.checkpoint)
        self._refuse_another_version(about)
        self._refuse_other_settings(about)
        self._refuse_other_teachers(about)
        try:
            self.step, self.elapsed, self.hours = about["step"], about["elapsed"], about["hours"]
            self.started, self.decay_from = about["started"], about["decay_from"]
            self.lowest, self.waited = about.get("lowest", math.inf), about.get("waited", 0)
            # Checkpoints of vcae 0.2 hold the constant weights, too.
            self.stage.load_state_dict(self._weights(constant=True) | under("stage.", tensors))
            self.ema.load(under("ema.", tensors))
        except (RuntimeError, KeyError) as error:
            first = " ".join(str(error).split())[:200]
            raise CheckpointError(
                f"{self.checkpoint}: of other networks than these ({first}); train in an empty folder"
            ) from error
        self._resumed = self.step, about["notes"]
        for k, optimiser in enumerate(self.optimisers):
            state: dict[int, dict[str, Tensor]] = {}
            for n, t in under(f"optimiser.{k}.", tensors).items():
                index, key = n.split(".")
                state.setdefault(int(index), {})[key] = t
            groups = optimiser.state_dict()["param_groups"]
            optimiser.load_state_dict({"state": state, "param_groups": groups})
        self.console.print(f"{self.stage.name}: continuing from step {self.step}", highlight=False)

    def _refuse_other_teachers(self, about: dict[str, Any]) -> None:
        """Raise CheckpointError where the networks that are not trained were others."""
        if about.get("constant", self.constant) != self.constant:
            raise CheckpointError(
                f"{self.checkpoint}: of a run with other teachers or fixed networks; give the same, or train"
                " in an empty folder"
            )

    def _refuse_another_version(self, about: dict[str, Any]) -> None:
        """Raise CheckpointError for a checkpoint in a layout that this version does not know."""
        if about.get("format", 1) != FORMAT:
            made_by = (about.get("notes") or {}).get("vcae", "another version")
            raise CheckpointError(
                f"{self.checkpoint}: is of vcae {made_by}, and vcae {vcae.__version__} cannot continue it;"
                f" install vcae {made_by}, or train in an empty folder"
            )

    def _refuse_other_settings(self, about: dict[str, Any]) -> None:
        """Raise CheckpointError where the checkpoint's settings or data are not those of this run."""
        try:
            notes = about["notes"]
            before, now = {**notes["run_config"], "data": notes["data"]}, {**self.settings, "data": self.data}
            del before["recipe"]
            for settings in (before, now):
                settings["training"] = {
                    n: x for n, x in settings["training"].items() if n not in BUDGET_AND_LOGGING
                }
        except (KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(
                f"{self.checkpoint}: does not say how it was made; train in an empty folder"
            ) from error
        if found := differences(before, now):
            more = f" and {len(found) - 3} more" if len(found) > 3 else ""
            raise CheckpointError(
                f"{self.checkpoint}: of a run with other settings ({'; '.join(found[:3])}{more});"
                " give the same settings, or train in an empty folder"
            )

    @contextmanager
    def _stop_signals(self) -> Iterator[None]:
        """SIGTERM and Ctrl-C end training after the current step."""

        def stop(number: int, frame: FrameType | None) -> None:
            self.stopping = True

        before = {s: signal.signal(s, stop) for s in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for s, handler in before.items():
                signal.signal(s, handler)


def _seed(rng: torch.Generator, seed: int, step: int) -> None:
    """Seed a generator and torch's own (noise in the networks) for one step."""
    mixed = (seed * 1_000_003 + step) % 2**63
    torch.manual_seed(mixed)
    rng.manual_seed(mixed)


def _picture(mel: Tensor) -> Tensor:
    """A mel as an image, low bands at the bottom: (n_mels, T) -> (3, n_mels, T) in [0, 1]."""
    from matplotlib import colormaps

    values = mel.detach().float().cpu().flip(0)
    values = (values - values.min()) / (values.max() - values.min()).clamp(min=1e-5)
    return torch.from_numpy(colormaps["magma"](values.numpy())[..., :3]).permute(2, 0, 1)
