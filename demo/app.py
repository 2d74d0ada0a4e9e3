"""The browser demo: hear it in ten seconds, understand it in a minute. `vcae demo` opens it, too.

A tab is one function in one file, in the list TABS.
"""

import os
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import gradio as gr

import api
import convert
import inside
from studio import MAX_UPLOAD, Studio
from vcae import Converter
from vcae.__main__ import main

TABS: list[Callable[[Studio], None]] = [convert.tab, inside.tab]

FOLDER = Path(__file__).parent
FORGET = 3600  # seconds until a recording is deleted
WAITING = 32  # users in the queue; more are told to come back


def page(studio: Studio) -> gr.Blocks:
    """Everything that is on the page."""
    with gr.Blocks(
        title="vcae: say it in another voice", analytics_enabled=False, delete_cache=(60, FORGET)
    ) as blocks:
        gr.HTML((FOLDER / "head.html").read_text("utf-8"))
        for tab in TABS:
            tab(studio)
        api.endpoints(studio)
    return blocks.queue(max_size=WAITING, default_concurrency_limit=8)


def serve(converter: Converter, host: str, port: int, auth: tuple[str, str] | None, share: bool) -> None:
    """Serve the page until interrupted; whatever was recorded or made is deleted then."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    theme = gr.themes.Default(
        primary_hue="teal",
        neutral_hue="slate",
        font=("system-ui", "sans-serif"),
        font_mono=("ui-monospace", "monospace"),
    ).set(
        # The theme's own greys are too pale to read.
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_400",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_400",
    )
    with tempfile.TemporaryDirectory(prefix="vcae-demo-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        page(Studio(converter)).launch(
            server_name=host,
            server_port=port,
            auth=auth,
            share=share,
            theme=theme,
            css_paths=FOLDER / "style.css",
            max_file_size=f"{MAX_UPLOAD}mb",
            footer_links=["api", "settings"],
            run_history=False,  # which would keep recordings in the browser
            enable_monitoring=False,
            ssr_mode=False,
            pwa=False,
        )


if __name__ == "__main__":
    main(["demo", *sys.argv[1:]])
