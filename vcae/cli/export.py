"""The command for ONNX graphs: export."""

from contextlib import nullcontext
from pathlib import Path

from vcae.cli.console import err
from vcae.cli.options import Model, load_converter
from vcae.errors import VcaeError


def export(onnx: Path, model: Model = "studio") -> None:
    """Export the networks to ONNX graphs, with an example script that converts without torch and vcae.

    Args:
        onnx: a new or empty folder
    """
    try:
        from vcae.export.onnx import export_onnx
    except ImportError as error:
        message = f"exporting needs {error.name}; install it with `pip install 'vcae[export]'`"
        raise VcaeError(message) from None
    converter = load_converter(model, "cpu")
    with err.status("Tracing the networks") if err.is_terminal else nullcontext():
        export_onnx(converter, onnx)
