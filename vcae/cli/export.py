"""The command that writes ONNX graphs: export."""

from contextlib import nullcontext
from pathlib import Path

from vcae.cli.console import err
from vcae.cli.options import Model, load_converter
from vcae.errors import VcaeError


def export(onnx: Path, model: Model = None) -> None:
    """Write the networks as ONNX graphs, and an example that converts with them, without torch or vcae.

    Args:
        onnx: a new folder, or an empty one
    """
    try:
        from vcae.export.onnx import export_onnx
    except ImportError as error:
        message = f"exporting needs {error.name}; install it with `pip install 'vcae[export]'`"
        raise VcaeError(message) from None
    converter = load_converter(model, "cpu")
    with err.status("Tracing the networks") if err.is_terminal else nullcontext():
        export_onnx(converter, onnx)
