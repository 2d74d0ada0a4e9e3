"""The training loop: one, explicit, for every stage.

It stops after a number of steps or of minutes, writes a checkpoint every so often, at the end and when
told to stop (SIGTERM, Ctrl-C), and goes on from it exactly: all randomness of a step comes from (seed,
step).
"""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning_fabric import Fabric
from rich.console import Console
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from vcae.files import load_tensors, save_tensors
from vcae.inference.checkpoint import CheckpointError, save
from vcae.training.config import TrainConfig
from vcae.training.progress import ProgressLine, value_of
from vcae.training.recorded import RecordedStep
from vcae.training.stages.base import Phase, Stage


class Trainer:
    """Trains one stage in a folder, where `STAGE.ckpt` is what a later run continues.

    Raises ValueError where neither `steps` nor `minutes` says when to end.
    """

    def __init__(
        self, stage: Stage, folder: Path, config: TrainConfig, validation: Stage | None = None
    ) -> None:
        if config.steps is None and config.minutes is None:
            raise ValueError("training needs an end: give steps or minutes")
        on_gpu = torch.cuda.is_available()
        self.config = config
        self.folder = folder
        self.fabric = Fabric(
            accelerator="cuda" if on_gpu else "cpu",
            devices=1,
            precision=config.precision or ("bf16-mixed" if on_gpu else "32-true"),
        )
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True  # batches are all of one shape
        self.device = self.fabric.device
        self.random = torch.Generator(self.device)
        self.stage = stage.to(self.device)
        self.validation_batches = (validation or stage).batch
        adversary = set(stage.adversary.parameters())
        self.generator = [p for p in stage.parameters() if p.requires_grad and p not in adversary]
        self.adversary = [p for p in stage.adversary.parameters() if p.requires_grad]
        self.optimisers = [
            torch.optim.AdamW(
                [{"params": group, "faster": faster}],
                torch.tensor(config.learning_rate, device=self.device),  # so that a recorded step reads it
                betas=config.betas,
                weight_decay=config.weight_decay,
                fused=True,
                capturable=on_gpu,
            )
            for group, faster in ((self.generator, 1.0), (self.adversary, config.adversary_rate))
            if group
        ]
        self.current = {  # the very tensors that are trained
            f"{name}.{key}": t
            for name, model in stage.product.items()
            for key, t in model.state_dict().items()
        }
        self.ema = {n: t.detach().clone() for n, t in self.current.items()}
        self.recorded = RecordedStep(self._train_step) if config.record and on_gpu else None
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
        steps, minutes = self.config.steps, self.config.minutes
        by_steps = 0.0 if steps is None else self.step / steps if steps else 1.0
        by_time = 0.0 if minutes is None else self.elapsed / 60 / minutes if minutes else 1.0
        return min(1.0, max(by_steps, by_time))

    def run(self) -> None:
        """Train to the end of the budget, or until told to stop, and write what came of it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.checkpoint.exists():
            self.resume()
        logs = self.folder / "tensorboard" / self.stage.name
        self.stage.train()
        with (
            SummaryWriter(str(logs), purge_step=self.step) as writer,
            ProgressLine(self.console, self.stage.name, self.stage.log_mel.config.sample_rate) as line,
            self._stop_signals(),
        ):
            last_save = clock = time.monotonic()
            while self.progress < 1 and not self.stopping:
                batch, phase = self._next()
                self._set_rates()
                result = (self.recorded or self._train_step)(batch, phase)
                self._follow()
                self.step += 1
                now = time.monotonic()
                self.elapsed, clock = self.elapsed + now - clock, now
                line.update(self.step, self.progress, result, batch)
                if self.step % self.config.log_steps == 0:
                    self._log(writer, "train", result)
                if self.step % self.config.validate_steps == 0:
                    self.validate(writer)
                if now - last_save > 60 * self.config.checkpoint_minutes:
                    self.save()
                    last_save = time.monotonic()
            self.save()  # before anything else: whoever asked to stop may not wait long
            if self.step % self.config.validate_steps and not self.stopping:
                self.validate(writer)

    def _next(self) -> tuple[Any, Phase]:
        """The batch and the phase of this step, all randomness seeded by (seed, step)."""
        for name, at in {**self.stage.milestones, "decay": self.config.decay}.items():
            if name not in self.started and self.progress >= at:
                self.started[name] = self.step
                if name == "decay":
                    self.decay_from = self.progress
        _seed(self.random, self.config.seed, self.step)
        batch = self.stage.batch(self.random)
        return batch, Phase(self.progress, frozenset(self.started), self.random)

    def _train_step(self, batch: Any, phase: Phase) -> dict[str, Tensor]:
        """One step of the discriminator, where it has started, then one of the generator.

        The processor waits for no result in here, so that a GPU never waits for the processor.
        """
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
        return result

    def _set_rates(self) -> None:
        """The learning rates of this step: the generator's, and the adversary's, a factor higher."""
        rate = self.config.learning_rate * self._rate_factor()
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"].fill_(group["faster"] * rate)

    def _descend(
        self,
        losses: dict[str, Tensor],
        optimiser: torch.optim.Optimizer,
        parameters: list[nn.Parameter],
    ) -> Tensor:
        """Weigh, back-propagate, clip, step; the gradient's norm."""
        optimiser.zero_grad(set_to_none=True)
        terms = [self.stage.weights[n] * x for n, x in losses.items() if n in self.stage.weights]
        torch.stack([t.float() for t in terms]).sum().backward()
        with_gradient = [p for p in parameters if p.grad is not None]
        norm = nn.utils.clip_grad_norm_(with_gradient, self.config.clip, error_if_nonfinite=False)
        optimiser.found_inf = (~norm.isfinite()).float()  # type: ignore[attr-defined]  # then no step is made
        optimiser.step()
        return norm

    def _rate_factor(self) -> float:
        """Warm-up, constant, then linear decay from where it started."""
        factor = min(1.0, (self.step + 1) / max(self.config.warm_up, 1))
        if "decay" in self.started:
            factor *= min(1.0, (1 - self.progress) / max(1 - self.decay_from, 1e-6))
        return factor

    @torch.no_grad()
    def _follow(self) -> None:
        """Exponential moving average of the weights, quicker while there are few steps."""
        keep = min(self.config.ema, (1 + self.step) / (10 + self.step))
        floats: list[tuple[Tensor, Tensor]] = []
        others: list[tuple[Tensor, Tensor]] = []
        for name, t in self.current.items():
            (floats if t.is_floating_point() else others).append((self.ema[name], t))
        torch._foreach_lerp_([slow for slow, _ in floats], [fast for _, fast in floats], 1 - keep)
        for slow, fast in others:
            slow.copy_(fast)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Put the averaged weights into the models for a while."""
        kept = {n: t.clone() for n, t in self.current.items()}
        self._load_product(self.ema)
        try:
            yield
        finally:
            self._load_product(kept)

    @torch.no_grad()
    def _load_product(self, state: dict[str, Tensor]) -> None:
        for n, t in self.current.items():
            t.copy_(state[n])

    @torch.no_grad()
    def validate(self, writer: SummaryWriter) -> dict[str, float]:
        """Losses of the averaged weights on fixed batches, with pictures and sounds of one."""
        totals: dict[str, float] = {}
        outside = torch.get_rng_state()
        self.stage.eval()
        with self.averaged():
            for k in range(self.config.validate_batches):
                _seed(self.random, self.config.seed, -1 - k)
                batch = self.validation_batches(self.random)
                phase = Phase(self.progress, frozenset(self.started), self.random)
                with self.fabric.autocast():
                    out = self.stage.generate(batch, phase)
                    result = self.stage.generator_losses(out, phase)
                for name, x in result.items():
                    totals[name] = totals.get(name, 0.0) + value_of(x) / self.config.validate_batches
        self.stage.train()
        torch.set_rng_state(outside)
        self._log(writer, "validation", totals)
        for name, mel in self.stage.pictures(out).items():
            writer.add_image(name, _picture(mel), self.step)
        for name, wav in self.stage.sounds(out).items():
            sample_rate = self.stage.log_mel.config.sample_rate
            writer.add_audio(name, wav.float().cpu().unsqueeze(0).clamp(-1, 1), self.step, sample_rate)
        shown = "  ".join(f"{n} {x:.3f}" for n, x in totals.items())
        self.console.print(f"{self.stage.name} {self.step}: validation  {shown}", highlight=False)
        return totals

    def _log(self, writer: SummaryWriter, kind: str, losses: dict[str, Any]) -> None:
        for name, x in losses.items():
            writer.add_scalar(f"{kind}/{name}", value_of(x), self.step)
        writer.add_scalar("learning_rate", self.config.learning_rate * self._rate_factor(), self.step)

    def save(self) -> None:
        """Write the checkpoint, and the averaged models beside it."""
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
        save_tensors(self.checkpoint, tensors, about)
        with self.averaged():
            for name, model in self.stage.product.items():
                notes = {"steps": self.step, "minutes": round(self.elapsed / 60, 1)}
                save(self.folder / f"{name}.safetensors", model, notes)

    def resume(self) -> None:
        """Go on from the checkpoint. Raises CheckpointError where it is of other networks."""
        tensors, about = load_tensors(self.checkpoint)

        def under(prefix: str) -> dict[str, Tensor]:
            return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}

        try:
            self.step, self.elapsed = about["step"], about["elapsed"]
            self.started, self.decay_from = about["started"], about["decay_from"]
            self.stage.load_state_dict(under("stage."))
            averages = under("ema.")
            for n, slow in self.ema.items():
                slow.copy_(averages[n])
        except (RuntimeError, KeyError) as error:
            first = " ".join(str(error).split())[:200]
            raise CheckpointError(
                f"{self.checkpoint}: of other networks than these ({first}); train in an empty folder"
            ) from error
        for k, optimiser in enumerate(self.optimisers):
            state: dict[int, dict[str, Tensor]] = {}
            for n, t in under(f"optimiser.{k}.").items():
                index, key = n.split(".")
                state.setdefault(int(index), {})[key] = t
            groups = optimiser.state_dict()["param_groups"]
            optimiser.load_state_dict({"state": state, "param_groups": groups})
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


def _seed(generator: torch.Generator, seed: int, step: int) -> None:
    """Seed a generator for one step, and torch's own one with it (noise in the networks)."""
    mixed = (seed * 1_000_003 + step) % 2**63
    torch.manual_seed(mixed)
    generator.manual_seed(mixed)


def _picture(mel: Tensor) -> Tensor:
    """A mel as an image, low bands at the bottom: (n_mels, T) -> (3, n_mels, T) in [0, 1]."""
    from matplotlib import colormaps

    values = mel.detach().float().cpu().flip(0)
    values = (values - values.min()) / (values.max() - values.min()).clamp(min=1e-5)
    return torch.from_numpy(colormaps["magma"](values.numpy())[..., :3]).permute(2, 0, 1)
