"""Checkpoints: safetensors files with the configuration as JSON in the header. Nothing is unpickled."""

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from vcae.errors import VcaeError
from vcae.files import TensorFileError, load_tensors, save_tensors
from vcae.model.autoencoder import Autoencoder
from vcae.model.config import AutoencoderConfig, MelConfig, VocoderConfig
from vcae.model.vocoder import Vocoder

BUNDLED = Path(__file__).parents[1] / "weights"
"""The folder of the weights that are part of the package."""
MODELS = ("studio", "live", "units")
"""The bundled models. The default, `studio`, has more look-ahead; `live` is for streams, and the content code
of `units` is discrete."""
SHARED_SPEAKER = "speaker.safetensors"
"""The file beside an autoencoder without a speaker encoder that holds this encoder."""

FORMAT = 1
"""Version of the header's layout. Files without a version are of format 0, written before vcae 0.2."""

_Model = TypeVar("_Model", bound=nn.Module)


class CheckpointError(VcaeError):
    """A checkpoint that cannot be used. The message is one line that names the file and how to fix it."""


def save(
    path: Path, model: nn.Module, notes: dict[str, Any] | None = None, without: str | None = None
) -> None:
    """Write a model in half precision with its `config`, a dataclass.

    notes: training metadata that can be written as JSON: steps, data, seed, version. without: prefix of
    tensors that are left out. Raises OutputError, and TypeError for a model without `config` or notes that
    are not JSON.
    """
    config: Any = getattr(model, "config", None)
    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        raise TypeError(
            f"only a model with a dataclass as `config` can be saved, not a {type(model).__name__}"
        )
    tensors = {n: _in_file(t) for n, t in model.state_dict().items()}
    if without:
        tensors = {n: t for n, t in tensors.items() if not n.startswith(without)}
    about = {
        "format": FORMAT,
        "kind": type(model).__name__,
        "config": dataclasses.asdict(config),
        "notes": notes or {},
    }
    save_tensors(path, tensors, about)


@dataclass(frozen=True)
class Header:
    """Metadata of a checkpoint."""

    kind: str
    """Name of the model's class."""
    config: dict[str, Any]
    notes: dict[str, Any]
    """Training metadata."""
    parameters: int
    """Number of tensor elements in the file."""


def read_header(path: Path) -> Header:
    """Read the header of a checkpoint of any kind. Raises CheckpointError."""
    tensors, about = _read(path)
    return Header(about["kind"], about["config"], about["notes"], sum(t.numel() for t in tensors.values()))


class ModelFiles(NamedTuple):
    """The files of a model."""

    autoencoder: Path
    vocoder: Path

    @property
    def phones(self) -> Path:
        """The file of the phone codec, which a model may lack."""
        return self.autoencoder.with_name("phones.safetensors")

    @property
    def prosody(self) -> Path:
        """The file of the prosody predictor, which a model may lack."""
        return self.autoencoder.with_name(f"{self.autoencoder.stem}-prosody.safetensors")

    @property
    def all(self) -> list[Path]:
        """These files, and those of speaker encoder and prosody predictor where they are apart."""
        others = (self.autoencoder.with_name(SHARED_SPEAKER), self.prosody)
        return [*self, *(path for path in others if path.exists())]


def model_files(model: str | Path | None = None) -> ModelFiles:
    """The files of a bundled model, by its name, or of a folder that training wrote; None: `studio`."""
    name = MODELS[0] if model is None else model
    if name in MODELS:
        return ModelFiles(BUNDLED / f"{name}.safetensors", BUNDLED / "vocoder.safetensors")
    return ModelFiles(Path(name) / "autoencoder.safetensors", Path(name) / "vocoder.safetensors")


def load_autoencoder(path: Path | None = None) -> Autoencoder:
    """Load an autoencoder as float32 in eval mode; default: that of the bundled model `studio`.

    Where the file holds no speaker encoder, that of `SHARED_SPEAKER` in the same folder is taken. Raises
    CheckpointError.
    """
    path = path or model_files().autoencoder
    tensors, about = _read(path)
    if about["kind"] == Autoencoder.__name__ and not any(n.startswith("speaker.") for n in tensors):
        shared, _ = _read(path.with_name(SHARED_SPEAKER))
        tensors |= {f"speaker.{name}": t for name, t in shared.items()}
    return _build(path, tensors, about, Autoencoder, AutoencoderConfig)


def save_without_speaker(path: Path, model: Autoencoder, notes: dict[str, Any] | None = None) -> None:
    """Write an autoencoder whose speaker encoder is in `SHARED_SPEAKER`, in the same folder, already.

    Raises CheckpointError where that file holds another speaker encoder, and what `save` raises.
    """
    shared = path.with_name(SHARED_SPEAKER)
    tensors, _ = _read(shared)
    own = {name: _in_file(t) for name, t in model.speaker.state_dict().items()}
    if own.keys() != tensors.keys() or not all(torch.equal(own[name], t) for name, t in tensors.items()):
        raise CheckpointError(f"{shared}: holds another speaker encoder than this model's; keep them apart")
    save(path, model, notes, without="speaker.")


def load_vocoder(path: Path | None = None) -> Vocoder:
    """Load a vocoder as float32 in eval mode; default: the bundled one. Raises CheckpointError."""
    return load(path or model_files().vocoder, Vocoder, VocoderConfig)


def load(path: Path, kind: type[_Model], config: Any) -> _Model:
    """Load a model that `save` wrote, as float32 in eval mode.

    kind: the model's class. config: the class of its configuration. Raises CheckpointError.
    """
    return _build(path, *_read(path), kind, config)


def fingerprint(*networks: nn.Module) -> str:
    """Hash of the weights of networks, 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for network in networks:
        for t in network.state_dict().values():
            digest.update(t.cpu().float().numpy().tobytes())
    return digest.hexdigest()[:16]


def _build(
    path: Path, tensors: dict[str, Tensor], about: dict[str, Any], kind: type[_Model], config: Any
) -> _Model:
    """The model of tensors and header. Raises CheckpointError."""
    if about["kind"] != kind.__name__:
        raise CheckpointError(f"{path}: holds a {about['kind']}; name a file that holds a {kind.__name__}")
    if torch.get_default_dtype() != torch.float32:
        raise CheckpointError(
            f"{path}: computes in float32, but torch's default is {torch.get_default_dtype()};"
            " call torch.set_default_dtype(torch.float32) first"
        )
    try:
        options = about["config"] | {"mel": MelConfig(**about["config"]["mel"])}
        model = kind(config(**options))
        model.load_state_dict({n: t.float() if t.is_floating_point() else t for n, t in tensors.items()})
    except VcaeError:  # not of the file, such as one of torch
        raise
    except (TypeError, KeyError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{path}: does not fit this version of vcae ({reason}); install the one that wrote it"
        ) from error
    return model.eval()


def _in_file(t: Tensor) -> Tensor:
    return t.half() if t.is_floating_point() else t


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and header of a checkpoint, the header converted to the current format."""
    try:
        tensors, about = load_tensors(path)
    except TensorFileError as error:
        models = " or ".join(MODELS)
        raise CheckpointError(
            f"{path}: {error.reason}; name a bundled model, {models}, or a folder that training wrote"
        ) from error
    if not isinstance(about.get("config"), dict):
        raise CheckpointError(
            f"{path}: holds a {about.get('kind')} without a configuration; name a file that training wrote"
        )
    if about.get("format", 0) not in (0, FORMAT):
        raise CheckpointError(f"{path}: was written by a newer version of vcae; upgrade vcae to read it")
    mel = about["config"].get("mel")
    if about.get("format", 0) == 0 and isinstance(mel, dict):
        mel.pop("centred", None)  # an option of format 0 for mels that cannot stream
    return tensors, {"notes": {}} | about
