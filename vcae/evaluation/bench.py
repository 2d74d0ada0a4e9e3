"""Speed, latency, memory and size of the package on this machine.

Each time is the fastest of several rounds, since other programs can only slow a round down. CPU seconds are
those of the process, summed over its threads.
"""

import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from vcae.audio import LEVEL, Samples, write_blocks
from vcae.errors import VcaeError
from vcae.inference.checkpoint import MODELS, model_files
from vcae.inference.converter import Converter, load
from vcae.inference.voice import Voice
from vcae.model.prosody import PRIOR
from vcae.model.vocoder import griffin_lim

LIVE_BLOCK = 0.02
"""Length of a block of a live stream in seconds."""
ROUNDS = 3
START_UP_SECONDS = 3
"""Length of the recording with which the start-up time of `vcae convert` is measured."""


@dataclass(frozen=True)
class Speed:
    """Computing time for one second of audio."""

    what: str
    real_time_factor: float
    """Wall-clock seconds."""
    cpu: float
    """CPU seconds."""


@dataclass(frozen=True)
class Blocks:
    """Percentiles of the computing time of a block of a live stream, in milliseconds."""

    seconds: float
    """Length of a block."""
    p50: float
    p95: float
    p99: float


@dataclass(frozen=True)
class Bench:
    """All measurements."""

    machine: str
    torch: str
    parameters: int
    weights_mib: float
    latency_ms: float
    speeds: Sequence[Speed]
    blocks: Blocks
    import_torch: float
    """Seconds of a process that only imports torch."""
    convert_short: float
    """Seconds of the whole process `vcae convert` for a file of START_UP_SECONDS."""
    memory: dict[int, float]
    """Length of the recording in seconds -> peak memory of `vcae convert` in MiB."""

    def rows(self) -> list[list[str]]:
        """A table of two columns: name and value."""
        rows = [["measured on", f"{self.machine}, torch {self.torch}"]]
        rows.append(["weights", f"{self.parameters / 1e6:.1f} M parameters, {self.weights_mib:.1f} MiB"])
        rows.append(["latency by construction", f"{self.latency_ms:.1f} ms"])
        for s in self.speeds:
            times = 1 / s.real_time_factor
            rows.append([s.what, f"{s.real_time_factor:.4f} s a second ({times:.0f} x), {s.cpu:.4f} CPU-s"])
        b = self.blocks
        figures = f"p50 {b.p50:.1f}, p95 {b.p95:.1f}, p99 {b.p99:.1f} ms"
        rows.append([f"a block of {1000 * b.seconds:g} ms, one thread", figures])
        rows.append(["python -c 'import torch'", f"{self.import_torch:.1f} s"])
        rows.append([f"vcae convert, {START_UP_SECONDS} s of sound", f"{self.convert_short:.1f} s"])
        for seconds, mib in self.memory.items():
            rows.append([f"peak memory, vcae convert, {seconds} s of sound", f"{mib:.0f} MiB"])
        return rows


def bench(model: str | Path | None = None, seconds: Sequence[int] = (10, 600), quick: bool = False) -> Bench:
    """Measure a model, by its name or folder, with a synthetic signal.

    seconds: lengths of the recordings for which memory is measured. quick: a short signal and one round.
    Raises CheckpointError.
    """
    converter = load(model)
    rounds, length = (1, 2.0) if quick else (ROUNDS, 20.0)
    threads = torch.get_num_threads()
    source = signal(length, converter.sample_rate)
    one = "one thread, blocks of a second"
    speeds = [measure_speed(one, lambda: _stream(converter, source, 1.0), length, rounds, 1)]
    converter.trace()
    blocks = _blocks(converter, source)
    if threads > 1:
        every = f"{threads} threads, blocks of a second"
        speeds.append(measure_speed(every, lambda: _stream(converter, source, 1.0), length, rounds, threads))
    if torch.cuda.is_available():
        on_gpu = load(model, "cuda")
        what = f"{torch.cuda.get_device_name()}, blocks of a second"
        speeds.append(measure_speed(what, lambda: _stream(on_gpu, source, 1.0), length, rounds, threads))
    yardstick = "for comparison: Griffin-Lim alone, one thread"
    speeds.append(measure_speed(yardstick, lambda: _griffin_lim(converter, source), length, rounds, 1))
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as name:
        short, memory = _processes(converter, model, Path(name), seconds, 1 if quick else 2)
    return Bench(
        machine=f"{_cpu()}, {platform.system()}",
        torch=torch.__version__,
        parameters=sum(p.numel() for m in (converter.autoencoder, converter.vocoder) for p in m.parameters()),
        weights_mib=sum(path.stat().st_size for path in model_files(model).all) / 2**20,
        latency_ms=1000 * converter.stream(_voice(converter)).latency / converter.sample_rate,
        speeds=speeds,
        blocks=blocks,
        import_torch=min(run_script("import torch")[0] for _ in range(rounds)),
        convert_short=short,
        memory=memory,
    )


def signal(seconds: float, sample_rate: int) -> Samples:
    """A speech-like signal: gliding harmonics under a formant, with pauses. It is deterministic."""
    t = np.arange(round(seconds * sample_rate)) / sample_rate
    phase = 2 * np.pi * np.cumsum(130 + 30 * np.sin(2 * np.pi * 0.7 * t)) / sample_rate
    formants = [1 / (1 + ((130 * k - 600) / 400) ** 2) for k in range(1, 20)]
    wav = sum(level * np.cos(k * phase) for k, level in enumerate(formants, start=1))
    syllables = np.sin(2 * np.pi * 0.8 * t).clip(0) ** 0.3
    hiss = np.random.default_rng(0).normal(size=len(t))
    out: Samples = (0.08 * wav * syllables + 0.001 * hiss).astype(np.float32)
    return out


def _voice(converter: Converter) -> Voice:
    """A random voice, since the time does not depend on the speaker."""
    config, generator = converter.autoencoder.config, torch.Generator().manual_seed(0)
    embedding = F.normalize(torch.randn(config.speaker_dim, generator=generator), dim=0)
    tokens = torch.randn(config.token_dim, config.tokens, generator=generator)
    return Voice(embedding, tokens, PRIOR, converter.made_by)


def _stream(converter: Converter, source: Samples, block: float) -> list[float]:
    """Convert a source block by block: seconds of each block."""
    stream = converter.stream(_voice(converter), level=LEVEL)
    size, times = round(block * converter.sample_rate), []
    for start in range(0, len(source) // size * size, size):
        begun = time.perf_counter()
        stream.feed(source[start : start + size])
        times.append(time.perf_counter() - begun)
    return times


@torch.inference_mode()
def _griffin_lim(converter: Converter, source: Samples) -> None:
    wav = torch.from_numpy(source)[None, None].to(converter.device)
    griffin_lim(converter.log_mel(wav), converter.autoencoder.config.mel)


def measure_speed(what: str, work: Callable[[], object], seconds: float, rounds: int, threads: int) -> Speed:
    """The fastest of `rounds` rounds of work on `seconds` of audio, after one round to warm up."""
    torch.set_num_threads(threads)
    work()
    clocks, cpus = [], []
    for _ in range(rounds):
        clock, cpu = time.perf_counter(), time.process_time()
        work()
        clocks.append(time.perf_counter() - clock)
        cpus.append(time.process_time() - cpu)
    return Speed(what, min(clocks) / seconds, min(cpus) / seconds)


def _blocks(converter: Converter, source: Samples) -> Blocks:
    torch.set_num_threads(1)
    times = [1000 * t for t in _stream(converter, source, LIVE_BLOCK)]
    cuts = statistics.quantiles(times, n=100, method="inclusive")
    return Blocks(LIVE_BLOCK, cuts[49], cuts[94], cuts[98])


def _processes(
    converter: Converter, model: str | Path | None, folder: Path, seconds: Sequence[int], rounds: int
) -> tuple[float, dict[int, float]]:
    """Seconds of `vcae convert` for a short file, and its peak memory in MiB by length of the recording."""
    _voice(converter).save(folder / "some.voice")
    minute = signal(60, converter.sample_rate)
    named = model is None or model in MODELS
    options = ["--model", str(model or MODELS[0] if named else Path(str(model)).resolve())]

    def convert(length: int) -> tuple[float, float]:
        source = folder / "source.wav"
        whole = [minute] * (length // 60) + [minute[: length % 60 * converter.sample_rate]]
        write_blocks(source, whole, converter.sample_rate)
        args = ["vcae", "convert", str(source), "--voice", str(folder / "some.voice")]
        args += ["--out", str(folder / "out.wav"), *options]
        return run_script(f"import sys; sys.argv = {args!r}; from vcae.__main__ import main; main()")

    short = min(convert(START_UP_SECONDS)[0] for _ in range(rounds))
    return short, {length: convert(length)[1] for length in seconds}


def run_script(script: str) -> tuple[float, float]:
    """Run a script in a new process: seconds and peak memory in MiB. Raises VcaeError if it fails."""
    report_memory = "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    begun = time.perf_counter()
    done = subprocess.run(  # noqa: S603 -- our own interpreter and script
        [sys.executable, "-c", f"{script}\n{report_memory}"], capture_output=True, text=True, check=False
    )
    spent = time.perf_counter() - begun
    if done.returncode:
        raise VcaeError(f"the measured process failed: {done.stderr.strip().splitlines()[-1]}")
    unit = 1 if sys.platform == "darwin" else 1024  # macOS reports bytes, Linux KiB
    return spent, int(done.stdout.split()[-1]) * unit / 2**20


def _cpu() -> str:
    """The name of the processor and the number of cores."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores"
