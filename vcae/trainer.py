"""The training loop: one, explicit, for every stage.

It stops after a number of steps or of minutes, writes a checkpoint every so often, at the end and when told
to stop (SIGTERM, Ctrl-C), and goes on from it exactly: all randomness of a step comes from (seed, step, rank).
"""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning_fabric import Fabric
from rich.console import Console
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from vcae.autoencoder import Autoencoder
from vcae.checkpoint import CheckpointError, load_tensors, save, save_tensors
from vcae.stages import Phase, Stage
from vcae.vocoder import Vocoder


@dataclass(frozen=True)
class TrainConfig:
    """How to train. Training ends at `steps` or after `minutes` in all, whichever comes first."""

    steps: int | None = None
    minutes: float | None = None
    learning_rate: float = 1e-3
    warm_up: int = 300
    decay: float = 0.75
    """The progress at which the learning rate starts to fall, linearly to zero."""
    betas: tuple[float, float] = (0.8, 0.99)
    weight_decay: float = 0.01
    clip: float = 1.0
    ema: float = 0.999
    seed: int = 0
    checkpoint_minutes: float = 2.0
    log_steps: int = 20
    validate_steps: int = 500
    validate_batches: int = 4
    devices: int = 1
    precision: str | None = None
    """Of Fabric; by default bf16-mixed on a GPU and 32-true elsewhere."""
    compile: bool = False
    """Compile the networks (torch.compile); worth it on a GPU for runs of more than some minutes."""


class Trainer:
    """Trains one stage in a folder, where `STAGE.ckpt` is what a later run continues.

    Raises ValueError where neither `steps` nor `minutes` says when to end.
    """

    def __init__(self, stage: Stage, folder: Path, config: TrainConfig, validation: Stage | None = None) -> None:
        if config.steps is None and config.minutes is None:
            raise ValueError("training needs an end: give steps or minutes")
        on_gpu = torch.cuda.is_available()
        self.config = config
        self.folder = folder
        self.fabric = Fabric(
            accelerator="cuda" if on_gpu else "cpu",
            devices=config.devices,
            precision=config.precision or ("bf16-mixed" if on_gpu else "32-true"),  # type: ignore[arg-type]
        )
        if config.devices > 1:
            self.fabric.launch()
        self.device = self.fabric.device
        self.stage = stage.to(self.device)
        self.validation_batches = (validation or stage).batch
        adversary = set(stage.adversary.parameters())
        self.generator = [p for p in stage.parameters() if p.requires_grad and p not in adversary]
        self.adversary = [p for p in stage.adversary.parameters() if p.requires_grad]
        self.optimisers = [
            torch.optim.AdamW(
                group, config.learning_rate, betas=config.betas, weight_decay=config.weight_decay
            )
            for group in (self.generator, self.adversary)
            if group
        ]
        self.ema = {n: t.detach().clone() for n, t in self._product_state().items()}
        self.step = 0
        self.elapsed = 0.0
        self.started: dict[str, int] = {}
        self.decay_from = config.decay
        self.stopping = False
        self.console = Console(stderr=True)

    @property
    def checkpoint(self) -> Path:
        """Where the state of the training is kept."""
        return self.folder / f"{self.stage.name}.ckpt"

    @property
    def progress(self) -> float:
        """0 at the start, 1 at the end, by whichever of steps and minutes is further on."""
        by_steps = self.step / self.config.steps if self.config.steps else 0.0
        by_time = self.elapsed / 60 / self.config.minutes if self.config.minutes else 0.0
        return min(1.0, max(by_steps, by_time))

    def run(self) -> None:
        """Train to the end of the budget, or until told to stop, and write what came of it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.checkpoint.exists():
            self.resume()
        if self.config.compile:
            for model in self.stage.product.values():
                for part in model.children():
                    part.compile()
        writer = SummaryWriter(str(self.folder / "tensorboard" / self.stage.name))
        line = _ProgressLine(self)
        self.stage.train()
        with self._stop_signals():
            last_save = clock = time.monotonic()
            while self.progress < 1 and not self.stopping:
                batch, phase = self._next()
                result = self._train_step(batch, phase)
                self.step += 1
                now = time.monotonic()
                self.elapsed, clock = self.elapsed + now - clock, now
                line.update(result, batch)
                if self.step % self.config.log_steps == 0:
                    self._log(writer, "train", result)
                if self.step % self.config.validate_steps == 0:
                    self.validate(writer)
                if now - last_save > 60 * self.config.checkpoint_minutes:
                    self.save()
                    last_save = time.monotonic()
        if self.step % self.config.validate_steps:
            self.validate(writer)
        self.save()
        writer.close()

    def _next(self) -> tuple[Any, Phase]:
        """The batch and the phase of this step, all randomness seeded by (seed, step, rank)."""
        for name, at in {**self.stage.milestones, "decay": self.config.decay}.items():
            if name not in self.started and self.progress >= at:
                self.started[name] = self.step
                if name == "decay":
                    self.decay_from = self.progress
        generator = _seeded(self.config.seed, self.step, self.fabric.global_rank)
        batch = self.stage.batch(generator, self.device)
        return batch, Phase(self.progress, frozenset(self.started), generator)

    def _train_step(self, batch: Any, phase: Phase) -> dict[str, Tensor]:
        """One step of the discriminator, where it has started, then one of the generator."""
        stage = self.stage
        with self.fabric.autocast():
            out = stage.generate(batch, phase)
        result: dict[str, Tensor] = {}
        if "adversary" in phase.started:
            with self.fabric.autocast():
                result = stage.discriminator_losses(out, phase)
            self._descend(result, self.optimisers[1], self.adversary)
        for p in self.adversary:
            p.requires_grad_(False)  # the generator's step needs no gradient of the weights
        with self.fabric.autocast():
            generator = stage.generator_losses(out, phase)
        result = result | generator
        result["gradient"] = self._descend(generator, self.optimisers[0], self.generator)
        for p in self.adversary:
            p.requires_grad_(True)
        self._follow()
        return result

    def _descend(
        self, losses: dict[str, Tensor], optimiser: torch.optim.Optimizer, parameters: list[nn.Parameter]
    ) -> Tensor:
        """Weigh, back-propagate, average over devices, clip, step; the gradient's norm."""
        rate = self.config.learning_rate * self._rate_factor()
        for group in optimiser.param_groups:
            group["lr"] = rate
        optimiser.zero_grad(set_to_none=True)
        terms = [self.stage.weights[n] * x for n, x in losses.items() if n in self.stage.weights]
        torch.stack([t.float() for t in terms]).sum().backward()  # type: ignore[no-untyped-call]
        with_gradient = [p for p in parameters if p.grad is not None]
        if self.fabric.world_size > 1:
            for p in with_gradient:
                p.grad = self.fabric.all_reduce(p.grad, reduce_op="mean")  # type: ignore[assignment]
        norm = nn.utils.clip_grad_norm_(with_gradient, self.config.clip, error_if_nonfinite=False)
        if norm.isfinite():  # a step on a bad batch is left out
            optimiser.step()
        return norm

    def _rate_factor(self) -> float:
        """Warm-up, constant, then linear decay from where it started."""
        factor = min(1.0, (self.step + 1) / max(self.config.warm_up, 1))
        if "decay" in self.started:
            factor *= (1 - self.progress) / max(1 - self.decay_from, 1e-6)
        return factor

    def _product_state(self) -> dict[str, Tensor]:
        return {
            f"{name}.{key}": t
            for name, model in self.stage.product.items()
            for key, t in model.state_dict().items()
        }

    @torch.no_grad()
    def _follow(self) -> None:
        """Exponential moving average of the weights, quicker while there are few steps."""
        keep = min(self.config.ema, (1 + self.step) / (10 + self.step))
        for name, t in self._product_state().items():
            if t.is_floating_point():
                self.ema[name].lerp_(t, 1 - keep)
            else:
                self.ema[name].copy_(t)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Put the averaged weights into the models for a while."""
        current = {n: t.clone() for n, t in self._product_state().items()}
        self._load_product(self.ema)
        try:
            yield
        finally:
            self._load_product(current)

    def _load_product(self, state: dict[str, Tensor]) -> None:
        for name, model in self.stage.product.items():
            model.load_state_dict({k: state[f"{name}.{k}"] for k in model.state_dict()})

    @torch.no_grad()
    def validate(self, writer: SummaryWriter) -> dict[str, float]:
        """Losses of the averaged weights on fixed batches, with pictures and sounds of one."""
        totals: dict[str, float] = {}
        outside = torch.get_rng_state()
        self.stage.eval()
        with self.averaged():
            for k in range(self.config.validate_batches):
                generator = _seeded(self.config.seed, -1 - k, 0)
                batch = self.validation_batches(generator, self.device)
                phase = Phase(self.progress, frozenset(self.started) - {"conversion"}, generator)
                with self.fabric.autocast():
                    out = self.stage.generate(batch, phase)
                    result = self.stage.generator_losses(out, phase)
                for name, x in result.items():
                    totals[name] = totals.get(name, 0.0) + float(x) / self.config.validate_batches
        self.stage.train()
        torch.set_rng_state(outside)
        self._log(writer, "validation", totals)
        for name, mel in self.stage.pictures(out).items():
            writer.add_image(name, _picture(mel), self.step)
        for name, wav in self.stage.sounds(out).items():
            writer.add_audio(name, wav.float().cpu().unsqueeze(0).clamp(-1, 1), self.step, 16_000)
        shown = "  ".join(f"{n} {x:.3f}" for n, x in totals.items())
        self.console.print(f"{self.stage.name} {self.step}: validation  {shown}", highlight=False)
        return totals

    def _log(self, writer: SummaryWriter, kind: str, losses: dict[str, Any]) -> None:
        for name, x in losses.items():
            writer.add_scalar(f"{kind}/{name}", float(x), self.step)
        writer.add_scalar("learning_rate", self.config.learning_rate * self._rate_factor(), self.step)

    def save(self) -> None:
        """Write the checkpoint, and the averaged models beside it."""
        if self.fabric.global_rank:
            return
        tensors = {f"stage.{n}": t for n, t in self.stage.state_dict().items()}
        tensors |= {f"ema.{n}": t for n, t in self.ema.items()}
        for k, optimiser in enumerate(self.optimisers):
            for i, state in optimiser.state_dict()["state"].items():
                tensors |= {f"optimiser.{k}.{i}.{n}": t for n, t in state.items()}
        about = {
            "step": self.step,
            "elapsed": self.elapsed,
            "started": self.started,
            "decay_from": self.decay_from,
        }
        save_tensors(self.checkpoint, _unshared(tensors), about)
        with self.averaged():
            for name, model in self.stage.product.items():
                if isinstance(model, Autoencoder | Vocoder):
                    notes = {"steps": self.step, "minutes": round(self.elapsed / 60, 1)}
                    save(self.folder / f"{name}.safetensors", model, notes)
                else:
                    save_tensors(self.folder / f"{name}.safetensors", model.state_dict(), {})

    def resume(self) -> None:
        """Go on from the checkpoint. Raises CheckpointError where it is of other networks."""
        tensors, about = load_tensors(self.checkpoint)

        def under(prefix: str) -> dict[str, Tensor]:
            return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}

        try:
            self.stage.load_state_dict(under("stage."))
            for n, t in under("ema.").items():
                self.ema[n].copy_(t)
        except (RuntimeError, KeyError) as error:
            first = str(error).splitlines()[0]
            raise CheckpointError(
                f"{self.checkpoint}: of other networks than these ({first}); train in an empty folder"
            ) from error
        for k, optimiser in enumerate(self.optimisers):
            state: dict[int, dict[str, Tensor]] = {}
            for n, t in under(f"optimiser.{k}.").items():
                index, key = n.split(".")
                state.setdefault(int(index), {})[key] = t
            optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
        self.step, self.elapsed = about["step"], about["elapsed"]
        self.started, self.decay_from = about["started"], about["decay_from"]
        self.console.print(f"{self.stage.name}: going on from step {self.step}", highlight=False)

    @contextmanager
    def _stop_signals(self) -> Iterator[None]:
        """SIGTERM and Ctrl-C end training after the step in hand."""

        def stop(number: int, frame: FrameType | None) -> None:
            self.stopping = True

        before = {s: signal.signal(s, stop) for s in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for s, handler in before.items():
                signal.signal(s, handler)


class _ProgressLine:
    """Step, speed, hours of audio an hour and losses: a live line on a terminal, else a line a minute."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.status = trainer.console.status("") if trainer.console.is_terminal else None
        if self.status:
            self.status.start()
        self.shown = time.monotonic()
        self.steps, self.seconds = 0, 0.0

    def update(self, losses: dict[str, Tensor], batch: Any) -> None:
        """After each step; shows something every second (a terminal) or minute."""
        wav = batch[0]  # (B, 1, N)
        self.steps += 1
        self.seconds += wav.shape[0] * wav.shape[-1] / 16_000
        since = time.monotonic() - self.shown
        if since < (1 if self.status else 60) and self.trainer.progress < 1:
            return
        values = "  ".join(f"{n} {float(x):.3f}" for n, x in losses.items())
        text = (
            f"{self.trainer.stage.name} {self.trainer.step} ({self.trainer.progress:.0%})  "
            f"{self.steps / since:.2f} steps/s  {self.seconds / since:.0f} h/h  {values}"
        )
        if self.status:
            self.status.update(text)
            if self.trainer.progress >= 1:
                self.status.stop()
        else:
            self.trainer.console.print(text, highlight=False, soft_wrap=True)
        self.shown, self.steps, self.seconds = time.monotonic(), 0, 0.0


def _seeded(seed: int, step: int, rank: int) -> torch.Generator:
    """A generator for one step, and torch's own one with it (noise in the networks)."""
    mixed = ((seed * 1_000_003 + step) * 1_009 + rank) % 2**63
    torch.manual_seed(mixed)
    return torch.Generator().manual_seed(mixed)


def _unshared(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies of those tensors that share memory, which safetensors does not take."""
    seen: set[int] = set()
    result = {}
    for name, t in tensors.items():
        result[name] = t.clone() if t.data_ptr() in seen else t
        seen.add(t.data_ptr())
    return result


def _picture(mel: Tensor) -> Tensor:
    """A mel as an image, low bands at the bottom: (n_mels, T) -> (3, n_mels, T) in [0, 1]."""
    from matplotlib import colormaps

    values = mel.detach().float().cpu().flip(0)
    values = (values - values.min()) / (values.max() - values.min()).clamp(min=1e-5)
    return torch.from_numpy(colormaps["magma"](values.numpy())[..., :3]).permute(2, 0, 1)
