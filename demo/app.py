"""The page of the browser demo, and the server that `vcae demo` starts.

Each tab is a function in a file of `demo/tabs/`, listed in TABS.
"""

import os
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path

import gradio as gr
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vcae import Converter
from vcae.cli.console import err

from . import api
from .studio import MAX_UPLOAD, Studio
from .tabs import convert, inside, live

TABS: list[Callable[[Studio], None]] = [convert.tab, live.tab, inside.tab]

FOLDER = Path(__file__).parent
STATIC = FOLDER / "static"
FORGET = 3600  # seconds after which a recording is deleted
WAITING = 32  # users in the queue; others are asked to try again later


def page(studio: Studio) -> gr.Blocks:
    """Build the page: header, tabs and API."""
    with gr.Blocks(
        title="vcae: say it in another voice", analytics_enabled=False, delete_cache=(60, FORGET)
    ) as blocks:
        gr.HTML((STATIC / "header.html").read_text("utf-8"))
        with gr.Tabs():
            for tab in TABS:
                tab(studio)
        api.endpoints(studio)
        for box in studio.consents:
            box.input(
                lambda agreed: [agreed] * len(studio.consents),
                box,
                studio.consents,
                queue=False,
                api_visibility="private",
                show_progress="hidden",
            )
    return blocks.queue(max_size=WAITING, default_concurrency_limit=8)


class OwnHostOnly:
    """Adds a Content Security Policy that forbids requests to other hosts."""

    POLICY = (
        "default-src 'self' data: blob:; script-src 'self' blob: 'unsafe-inline' 'unsafe-eval'; "
        "style-src 'self' 'unsafe-inline'; object-src 'none'; base-uri 'self'; frame-ancestors 'self'"
    )

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the app does, and add the policy to the headers."""

        async def with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Content-Security-Policy"] = self.POLICY
            await send(message)

        await self.app(scope, receive, with_policy)


def serve(converter: Converter, host: str, port: int, auth: tuple[str, str] | None, share: bool) -> None:
    """Serve the page until interrupted, then delete all recordings and results."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    theme = gr.themes.Default(
        primary_hue="teal",
        neutral_hue="slate",
        font=("system-ui", "sans-serif"),
        font_mono=("ui-monospace", "monospace"),
    ).set(
        # The default colours of the theme have too little contrast.
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_600",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_400",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_400",
        checkbox_border_color_dark="*neutral_500",
    )
    with tempfile.TemporaryDirectory(prefix="vcae-demo-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        studio = Studio(converter)
        blocks = page(studio)
        _, local, public = blocks.launch(
            app_kwargs={"routes": studio.routes, "middleware": [Middleware(OwnHostOnly)]},
            server_name=host,
            server_port=port,
            auth=auth,
            share=share,
            theme=theme,
            css_paths=STATIC / "style.css",
            head_paths=STATIC / "head.html",
            allowed_paths=[str(FOLDER / "voices")],
            max_file_size=f"{MAX_UPLOAD}mb",
            footer_links=["api", "settings"],
            run_history=False,  # it would store recordings in the browser
            enable_monitoring=False,
            ssr_mode=False,
            inbrowser=err.is_terminal,
            quiet=True,
            prevent_thread_lock=True,
        )
        err.print(f"Open {public or local} in a browser; press Ctrl+C here to end it.")
        blocks.block_thread()
