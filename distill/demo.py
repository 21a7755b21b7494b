"""Try a student on a page of your own machine: `python -m distill.demo`."""

import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from distill.command_line.face_settings import FaceSettings
from distill.command_line.stage import run_stage
from distill.data.class_order import ASSUMED
from distill.errors import InputError
from distill.extras import install_command
from distill.files.photo_folder import photo_folder
from distill.runs.trained_networks import trained_networks, trained_path
from distill.runtimes.foreign_network import ForeignNetwork

if TYPE_CHECKING:
    import numpy as np
    from starlette.types import ASGIApp, Receive, Scope, Send

    from distill.evaluation.side_by_side import Look, Row, SideBySide

_HOST = "127.0.0.1"  # nobody else can reach it
_NAMES = (_HOST, "localhost", "::1")  # the last for whoever forwards it
_LARGEST_PHOTO = 25_000_000  # bytes
_QUIET = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
_TITLE = "Faces and their expressions"
_NOTHING_YET = "Drop a photo, paste one, or take one with the camera."
_THUMBNAIL = 96  # pixels
_CSS = """
.faces .face { display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-start; margin: 1rem 0; }
.faces img { height: 96px; width: auto; margin: 0; border-radius: 6px; }
.faces table { border-collapse: separate; border-spacing: 12px 2px; flex: 1 1 18rem; margin: 0; }
.faces table, .faces tr, .faces th, .faces td { border: none !important; }
.faces th, .faces td { padding: 2px 8px; text-align: left; }
.faces td.bar { --tint: color-mix(in srgb, var(--color-accent) 30%, transparent); width: 40%;
    background: linear-gradient(to right, var(--tint) var(--share), transparent var(--share));
    font-variant-numeric: tabular-nums; }
.faces .top { font-weight: 700; }
.faces .times { opacity: 0.7; margin-left: 0.5em; }
"""


@dataclass(frozen=True, kw_only=True)
class DemoSettings(FaceSettings, ForeignNetwork):
    """Show a student's predictions for your photos or your camera's, on a page that only this machine can open."""

    model: str | None = None
    """Exported student, folder of its card, or name of a student that comes with this package; by default the most
    accurate of them."""
    teacher: str | None = None
    """A second network, shown next to the student: another exported file or folder, a run of this project, the name
    of a trained network that comes with this package, or an external network (a .keras, .h5 or .onnx file, a
    SavedModel, MODULE:FUNCTION), which --input, --output-type and --classes describe. It must have the student's
    classes; where nothing names those of an external one, they are assumed to be in the student's order. By default
    the trained network that comes with this package stands next to its student, where TensorFlow is installed;
    "none" shows none."""
    port: int = 7860
    """The page is http://127.0.0.1:PORT."""
    browser: bool = True
    """Open the page in the browser."""


def demo(settings: DemoSettings) -> None:
    """Serve the page until Ctrl-C.

    Raises:
        InputError: Gradio, or what the networks or the detector need, is not installed; a network cannot be used; the
            port is not free.
    """
    _check_port(settings.port)
    gradio = _gradio()  # slow to import
    from distill.evaluation.side_by_side import SideBySide

    networks = SideBySide(
        settings.model,
        teacher=_teacher(settings),
        foreign=settings,
        face_detector=settings.face_detector,
        min_face_score=settings.min_face_score,
    )
    try:
        with page_served(gradio, networks, port=settings.port, browser=settings.browser) as address:
            print(f"{address} shows the page until Ctrl-C", flush=True)
            while True:
                time.sleep(1)
    except KeyboardInterrupt:  # there is no other end
        return


def _teacher(settings: DemoSettings) -> str | None:
    """Return what is shown next to the student."""
    if settings.teacher is not None:
        return None if settings.teacher == "none" else trained_path(settings.teacher)
    if settings.model is not None or settings.stated or find_spec("tensorflow") is None:
        return None
    return next(map(str, trained_networks().values()), None)


@contextmanager
def page_served(gradio: ModuleType, networks: "SideBySide", *, port: int, browser: bool = False) -> Iterator[str]:
    """Serve the page within the context, whose value is its address. Photos are deleted a minute after they came.

    Only who calls the page by a name of this machine is answered, and not for the page of another web site.

    Raises:
        InputError: the port was taken meanwhile.
    """
    from starlette.middleware import Middleware

    with photo_folder() as photos, _environment({"GRADIO_TEMP_DIR": str(photos)}):
        page = _page(gradio, networks)
        try:
            _, address, _ = page.launch(
                server_name=_HOST,
                server_port=port,
                share=False,
                inbrowser=browser,
                prevent_thread_lock=True,
                quiet=True,
                max_file_size=_LARGEST_PHOTO,
                app_kwargs={"middleware": [Middleware(_OwnPageAlone)]},
                ssr_mode=False,
                footer_links=[],
                css=_CSS,
                theme=gradio.themes.Default(  # fonts of the system: others would be fetched
                    font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
                ),
            )
        except OSError as error:
            raise InputError(_no_port(port, str(error))) from error
        try:
            yield address.rstrip("/")
        finally:
            page.close(verbose=False)


class _OwnPageAlone:
    """Refuses requests that the page of another web site makes the browser send, or that reach here by its name.

    Browsers say by which name they called (Host), and whose page sends a photo (Origin).
    """

    def __init__(self, app: "ASGIApp") -> None:
        self._app = app

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        from starlette.datastructures import Headers
        from starlette.responses import PlainTextResponse

        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        called, asking = f"//{headers.get('host', '')}", headers.get("origin")
        if _hostname(called) in _NAMES and (asking is None or _hostname(asking) in _NAMES):
            await self._app(scope, receive, send)
        else:
            refused = PlainTextResponse("this page answers only to names of this machine, and to itself", 403)
            await refused(scope, receive, send)


def _hostname(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:  # brackets that do not close
        return None


def _gradio() -> ModuleType:
    """Return the module `gradio`, set not to call home.

    Raises:
        InputError: it is not installed.
    """
    os.environ.update(_QUIET)
    try:
        import gradio
    except ImportError as error:
        raise InputError(f"the page needs Gradio: {install_command('demo')}") from error
    return gradio


def _check_port(port: int) -> None:
    """Raise an InputError if nothing can be served at `port`."""
    if not 0 < port < 1 << 16:
        raise InputError(f"--port must be 1 to 65535, received {port}")
    with socket.socket() as probe:
        if os.name == "posix":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError as error:
            raise InputError(_no_port(port, error.strerror or str(error))) from error


def _no_port(port: int, problem: str) -> str:
    return f"port {port} cannot be used ({' '.join(problem.split())}): give another one with --port"


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables within the context."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _page(gradio: ModuleType, networks: "SideBySide") -> Any:
    """Return the page as Gradio's Blocks."""
    with gradio.Blocks(title=_TITLE, analytics_enabled=False) as page:
        gradio.HTML(_heading(networks))
        with gradio.Row():
            photo = gradio.Image(label="Photo", sources=["upload", "webcam", "clipboard"], height=360)
            picture = gradio.Image(
                label="Faces", interactive=False, format="jpeg", buttons=["fullscreen"], height=360
            )
        photo.preprocess = lambda file: None if file is None else file.path  # Gradio's own fails on damaged files
        results = gradio.HTML(_paragraph(_NOTHING_YET))
        photo.change(lambda path: shown(networks, path), photo, [picture, results], api_visibility="private")
    return page


def shown(networks: "SideBySide", path: str | None) -> "tuple[np.ndarray | None, str]":
    """Return the picture, and the HTML below it, for the photo at `path`; None where there is none."""
    if path is None:
        return None, _paragraph(_NOTHING_YET)
    try:
        look = networks.look(path)
    except InputError as error:
        return None, _paragraph(f"This photo cannot be used: {error}")
    return look.picture, _faces_html(look)


def _heading(networks: "SideBySide") -> str:
    names = f"Student: <b>{escape(networks.student.name)}</b>"
    if networks.teacher is not None:
        names += f" · Teacher: <b>{escape(networks.teacher.name)}</b>"
        if networks.teacher.class_order == ASSUMED:
            names += ", whose classes are assumed to be in the student's order (--classes says it)"
    return f"<h2>{_TITLE}</h2><p>{names} · Photos stay on this machine.</p>"


def _paragraph(text: str) -> str:
    return f'<div class="faces"><p class="message">{escape(text)}</p></div>'


def _faces_html(look: "Look") -> str:
    times = " · ".join(f"{what} {time:.1f} ms" for what, time in look.milliseconds.items())
    faces = "".join(map(_face, look.rows))
    message = f'<p class="message">{escape(look.message)} <span class="times">{times}</span></p>'
    return f'<div class="faces">{message}{faces}</div>'


def _face(row: "Row") -> str:
    """Return a face, and the probabilities of its expressions by every network."""
    from distill.reports.templates import picture_url

    predictions = {"student": row.student}
    if row.teacher is not None:
        predictions["teacher"] = row.teacher
    head = "".join(f"<th>{name}</th>" for name in ("class", *predictions))
    lines = "".join(
        f"<tr><td>{escape(name)}</td>{''.join(_bar(each, name) for each in predictions.values())}</tr>"
        for name in row.student
    )
    picture = picture_url(row.crop, largest=2 * _THUMBNAIL)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"
    return f'<div class="face"><img alt="the face" src="{picture}">{table}</div>'


def _bar(probabilities: Mapping[str, float], name: str) -> str:
    value = probabilities[name]
    kind = "bar top" if value == max(probabilities.values()) else "bar"
    return f'<td class="{kind}" style="--share: {100 * value:.1f}%">{100 * value:.1f} %</td>'


def main() -> None:
    run_stage(demo, DemoSettings, backend=None, begins_anew=True)


if __name__ == "__main__":
    main()
