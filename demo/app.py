"""The page of the browser demo, and the server that `vcae demo` starts.

Each tab is a function in a file of `demo/tabs/`, listed in TABS.
"""

import json
import os
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import gradio as gr
import httpx
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vcae import Converter
from vcae.cli.console import err
from vcae.errors import VcaeError

from . import api
from .shelf import KEPT, SWEPT
from .studio import MAX_UPLOAD, SAMPLES, Studio
from .tabs import convert, files, inside, live, read, repair
from .widgets.picker import choices

TABS: list[Callable[[Studio], None]] = [convert.tab, files.tab, live.tab, repair.tab, read.tab, inside.tab]

FOLDER = Path(__file__).parent
STATIC = FOLDER / "static"
SCRIPTS = ["language.js", "voices.js", "player.js", "live.js", "page.js"]
LANGUAGES = FOLDER / "languages"
"""Translations of the page, a file each, by the names that Gradio has for languages. The keys are the English
texts of the page; `{name}` in them stands for what differs from case to case."""
FRAMES = "'self' https://huggingface.co" if "SPACE_ID" in os.environ else "'self'"
"""Pages that may show this one in a frame; a Hugging Face Space is one."""
WAITING = 32  # users in the queue; others are asked to try again later
MARKED = "Results carry an inaudible mark that says that they are converted; live speech does not."
REMEMBERED = ["voice", "second", "share", "pitch", "strength"]
"""Controls whose last value the browser keeps, by their roles."""


def page(studio: Studio) -> gr.Blocks:
    """Build the page: header, tabs and API."""
    with api.Page(title="vcae", analytics_enabled=False, delete_cache=(round(SWEPT), round(KEPT))) as blocks:
        gr.HTML(
            "<header class='head'><h1>Say it in another voice</h1>"
            "<p>Recordings are converted on the computer that runs this page, sent nowhere else, "
            f"and deleted within an hour.</p>{f'<p>{MARKED}</p>' if studio.watermark else ''}"
            "</header><div id='on-air' role='status' hidden></div>"
        )
        studio.kept, studio.own = gr.JSON(visible=False), gr.JSON(visible=False)
        with gr.Tabs(overflow_behavior="wrap"):  # all are in sight on a phone, too
            for tab in TABS:
                tab(studio)
        api.endpoints(studio)
        for role, components in studio.shared.items():
            _share(role, components)
        _restore(studio, blocks)
    return blocks.queue(max_size=WAITING, default_concurrency_limit=8)


def _share(role: str, components: list[gr.components.Component]) -> None:
    """Let controls of one role change together, and let the browser keep their value."""
    remember = f"demo.remember({json.dumps(role)}, value); " if role in REMEMBERED else ""
    for component in components:
        script = f"(value) => {{ {remember}return Array({len(components)}).fill(value); }}"
        component.input(None, component, components, js=script)  # type: ignore[attr-defined]


def _restore(studio: Studio, blocks: gr.Blocks) -> None:
    """When the page opens, and when voices or presets change: set the controls to what the browser keeps."""
    roles = [(role, component) for role in REMEMBERED for component in studio.shared[role]]

    def offer(kept: dict[str, Any] | None) -> list[Any]:
        kept = kept or {}
        own, last = list(kept.get("voices", [])), dict(kept.get("settings", {}))
        known = [*SAMPLES, *own]
        for role in ("voice", "second"):
            if last.get(role) not in (*known, convert.NOBODY):
                last.pop(role, None)
        offered: dict[str, Any] = {"voice": choices(own), "second": convert.others(own)}
        updates = []
        for role, component in roles:
            value = {"value": last[role]} if role in last else {}
            listed = {"choices": offered[role]} if role in offered and (own or kept.get("removed")) else {}
            updates.append(type(component)(**value, **listed) if value or listed else gr.skip())
        return [*updates, gr.Dropdown(kept.get("presets", []))]

    outputs = [*(component for _, component in roles), studio.presets]
    studio.kept.change(
        offer, studio.kept, outputs, queue=False, show_progress="hidden", api_visibility="private"
    )
    blocks.load(None, None, studio.kept, js="async () => [await demo.kept()]")
    blocks.load(None, None, studio.source, js="() => demo.lastSource()")


class SecurityHeaders:
    """Adds headers that forbid requests to other hosts and guessing of types, and tell no one of the page."""

    HEADERS: ClassVar[dict[str, str]] = {
        "Content-Security-Policy": "default-src 'self' data: blob:; "
        "script-src 'self' blob: 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
        f"object-src 'none'; base-uri 'self'; frame-ancestors {FRAMES}",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    }

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the app does, and add the headers."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self.HEADERS)
            await send(message)

        await self.app(scope, receive, with_headers)


def scripts(known: dict[str, Any]) -> str:
    """The scripts of the page as HTML; they find `known` as `window.demo`.

    They are written into the page, because Gradio does not wait for scripts that the page names: its load
    event would come before what it calls is there.
    """
    code = (STATIC / name for name in SCRIPTS)
    texts = [
        f"window.demo = {json.dumps(known, ensure_ascii=False)};",
        *(path.read_text("utf-8") for path in code),
    ]
    return "".join(f"<script>{text}</script>" for text in texts)


def translations() -> dict[str, dict[str, str]]:
    """The texts of the page by language, and by the English text."""
    return {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(LANGUAGES.glob("*.json"))}


def _of_dropdowns(blocks: gr.Blocks, languages: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    """Translations of what dropdowns write into their fields, where static/language.js does not reach.

    Gradio gets no others: it would also translate the values of components, which are no texts.
    """
    dropdowns = [block for block in blocks.blocks.values() if isinstance(block, gr.Dropdown)]
    labels = {str(label) for each in dropdowns for label, value in each.choices if label != value}
    english = {label: label for label in labels}
    return {"en": english} | {name: {k: texts.get(k, k) for k in labels} for name, texts in languages.items()}


def bypass_proxy(*hosts: str) -> None:
    """Let requests of this process to these hosts, its own, go to no proxy."""
    for name in ("no_proxy", "NO_PROXY"):
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), *hosts]))


def serve(
    converter: Converter,
    live: Converter,
    host: str,
    port: int,
    auth: tuple[str, str] | None,
    share: bool,
    watermark: bool = True,
) -> None:
    """Serve the page until interrupted, then delete all recordings and results.

    converter: for recordings. live: for the Live tab; may be the same. watermark: mark results as converted.
    Raises VcaeError where the page cannot be reached from this computer.
    """
    bypass_proxy("localhost", host)
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
        button_primary_background_fill_hover_dark="*primary_800",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_400",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_400",
        checkbox_border_color_dark="*neutral_500",
    )
    with tempfile.TemporaryDirectory(prefix="vcae-demo-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        studio = Studio(converter, live, Path(folder), watermark)
        blocks = page(studio)
        files = [
            Mount("/page", StaticFiles(directory=STATIC)),
            Mount("/samples", StaticFiles(directory=FOLDER / "voices")),
        ]
        languages = translations()
        known = {
            "samples": {name: sample.path.name for name, sample in SAMPLES.items()},
            "languages": languages,
        }
        try:
            _, local, public = blocks.launch(
                app_kwargs={"routes": [*studio.routes, *files], "middleware": [Middleware(SecurityHeaders)]},
                server_name=host,
                server_port=port,
                auth=auth,
                share=share,
                theme=theme,
                css_paths=STATIC / "style.css",
                head=scripts(known),
                allowed_paths=[str(FOLDER / "voices")],
                max_file_size=f"{MAX_UPLOAD}mb",
                footer_links=["api", "settings"],
                i18n=gr.I18n(**_of_dropdowns(blocks, languages)),
                run_history=False,  # it would store recordings in the browser
                enable_monitoring=False,
                ssr_mode=False,
                inbrowser=err.is_terminal,
                quiet=True,
                prevent_thread_lock=True,
            )
        except httpx.HTTPError as error:  # Gradio asks the page whether it is there
            raise VcaeError(
                f"the page at {host}, port {port} cannot be reached from this computer ({error}); check the"
                " network settings: localhost must be known"
            ) from None
        studio.later(live.trace)  # not before, since it keeps the server from answering for a while
        err.print(f"Open {public or local} in a browser; press Ctrl+C here to end it.")
        blocks.block_thread()
