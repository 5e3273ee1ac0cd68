"""A graph in a document: SVG in the page itself for HTML, PDF for LaTeX, the table for everything else."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform

from gradtrace import api, model
from gradtrace.documents.script import Ran, draw
from gradtrace.drawing.embedded_page import EmbeddedPage
from gradtrace.drawing.page import Frame, inline
from gradtrace.errors import EngineError
from gradtrace.files import write_whole
from gradtrace.integrations.sphinx_scripts import folder, table

if TYPE_CHECKING:
    from sphinx.config import Config

__all__ = ["PACKAGE", "STYLES", "GraphToText", "gradtrace_graph", "html", "latex", "refuse"]

STYLES = Path(__file__).with_name("gradtrace.css")
PACKAGE = Path(__file__).with_name("gradtrace.sty")
LIGHT_ONLY = {"agogo", "alabaster", "bizstyle", "classic", "default", "haiku", "nature", "pyramid", "scrolls"} | {
    "sphinx_rtd_theme",
    "sphinxdoc",
    "traditional",
}


class gradtrace_graph(nodes.General, nodes.Inline, nodes.Element):  # noqa: N801 - docutils's nodes are named so
    """A pass to draw: the script, and the file that keeps its trace."""


def _ran(node: nodes.Element) -> Ran:
    return Ran(api.load(node["trace"]), Path(node["trace"]).name.partition(".")[0])


def _frame(node: nodes.Element, config: Config) -> Frame:
    sizes: dict[str, str] = {
        key: f"{size}px" if size.isdecimal() else size for key in ("width", "height") if (size := node[key])
    }
    links = _links(node, str(config.gradtrace_link))
    return Frame(node["alt"], sizes.get("width", ""), sizes.get("height", ""), _is_dark(config), links)


def _links(node: nodes.Element, template: str) -> dict[str, str]:
    """Return where each node's line stands, by the node's id: in the script, if ``gradtrace_link`` tells where."""
    script = node["script"]
    if not template or not script.file:
        return {}
    shown = api.select(_ran(node).trace or model.Trace(model.FORMAT_VERSION), "last")
    sources = {each.id: each.source for each in shown.nodes if each.source}
    own = {name: at.line for name, at in sources.items() if Path(at.filename).name == script.name}
    return {name: template.format(path=node["path"], line=line) for name, line in own.items()}


def _is_dark(config: Config) -> bool:
    choice = str(config.gradtrace_dark)
    return config.html_theme not in LIGHT_ONLY if choice == "auto" else choice == "yes"


def _visit_html(translator: Any, node: nodes.Element) -> None:
    builder = translator.builder
    if node["interactive"] and builder.name != "epub":  # whose readers run no scripts
        page = draw(_ran(node), "html", node["script"], folder(builder.env)).decode()
        translator.body.append(f"{EmbeddedPage.of_height(page, node['height'], node['alt']).frame()}\n")
        raise nodes.SkipNode
    svg = draw(_ran(node), "svg", node["script"], folder(builder.env)).decode()
    translator.body.append(f'<div class="gradtrace-graph">{inline(svg, _frame(node, builder.config))}</div>\n')
    raise nodes.SkipNode


def _visit_latex(translator: Any, node: nodes.Element) -> None:
    builder = translator.builder
    pdf = draw(_ran(node), "pdf", node["script"], folder(builder.env))
    name = f"{node['filename-prefix'] or 'gradtrace'}-{hashlib.sha256(pdf).hexdigest()[:12]}.pdf"
    write_whole(Path(builder.outdir, name), pdf)
    sizes = [f"{key}={size}" for key in ("width", "height") if (size := _latex_size(node[key]))]
    command = f"sphinxincludegraphics[{','.join(sizes)}]" if sizes else "gradtracegraphics"
    translator.body.append(f"\\noindent\\{command}{{{name}}}\n")
    raise nodes.SkipNode


def _latex_size(size: str) -> str:
    if size.endswith("%"):
        return rf"{float(size[:-1]) / 100:g}\linewidth"
    return f"{float(size) * 0.75:g}bp" if size.isdecimal() else size.replace("px", "bp")


def _visit_other(_translator: Any, _node: nodes.Element) -> None:
    raise nodes.SkipNode


def _depart(_translator: Any, _node: nodes.Element) -> None:
    """Close nothing: visiting the node has written all of it."""


html, latex, refuse = (_visit_html, _depart), (_visit_latex, _depart), (_visit_other, _depart)


class GraphToText(SphinxPostTransform):
    """Write the table where there is no picture, or the engine fails."""

    default_priority: ClassVar[int] = 200

    def run(self, **_: Any) -> None:
        """Replace the graphs that this builder can't show."""
        name = {"html": "svg", "latex": "pdf"}.get(self.env.gradtrace_format)
        for node in list(self.document.findall(gradtrace_graph)):
            ran = _ran(node)
            try:
                if name:
                    draw(ran, name, node["script"], folder(self.env))
                    continue
            except EngineError as error:
                self._warn(node, error)
            node.replace_self(table(self.env, ran, node["script"]))

    def _warn(self, node: nodes.Element, error: EngineError) -> None:
        from sphinx.util import logging  # noqa: PLC0415

        logging.getLogger(__name__).warning("%s", error, location=node.parent, type="gradtrace", subtype="engine")
