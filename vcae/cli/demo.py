"""The command that serves the browser demo: demo."""

import importlib
import importlib.util
import socket

from vcae.cli.options import Device, Model, load_converter
from vcae.errors import VcaeError


def demo(
    host: str = "127.0.0.1",
    port: int = 7860,
    auth: str | None = None,
    share: bool = False,
    watermark: bool = True,
    model: Model = "studio",
    device: Device = "cpu",
) -> None:
    """Serve the browser demo on this machine. Needs the extra `demo`.

    Args:
        host: address to listen at; 0.0.0.0 accepts connections from other machines
        port: port to listen at
        auth: NAME:PASSWORD that visitors must enter
        share: create a public link, through the servers of Gradio
        watermark: do not mark converted recordings with the inaudible watermark that `vcae detect` finds
    """
    name, _, password = (auth or "").partition(":")
    if auth is not None and not (name and password):
        raise VcaeError("--auth must be NAME:PASSWORD")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", error)
            raise VcaeError(f"cannot listen at {host}, port {port} ({reason}); try another --port") from None
    if importlib.util.find_spec("gradio") is None:
        raise VcaeError("the demo needs Gradio; install it with `pip install 'vcae[demo]'`")
    # A wheel holds the page inside of vcae, a checkout beside it.
    installed = importlib.util.find_spec("vcae.demo") is not None
    app = importlib.import_module("vcae.demo.app" if installed else "demo.app")
    converter = load_converter(model, device)
    live = load_converter("live", device) if model == "studio" else converter
    app.serve(converter, live, host, port, (name, password) if auth else None, share, watermark)
