"""The Sphinx extension: the directive ``gradtrace``, the role ``grad``, and the configuration of both."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx import addnodes
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective, SphinxRole

from gradtrace import __version__
from gradtrace.api import select
from gradtrace.documents.script import Ran, Script, seconds
from gradtrace.errors import GradtraceError, UnknownNameError
from gradtrace.integrations import sphinx_scripts as scripts
from gradtrace.integrations.sphinx_graph import PACKAGE, STYLES, GraphToText, gradtrace_graph, html, latex, refuse
from gradtrace.wording.numbers import stats

if TYPE_CHECKING:
    from sphinx.application import Sphinx

__all__ = ["GradRole", "GradtraceDirective", "setup"]

logger = logging.getLogger(__name__)
PARTS = ("source", "graph", "table")
TRUE = ("yes", "true", "1")


def _parts(text: str | None) -> list[str]:
    """Return the parts that ``:show:`` names, in its order."""
    words = [part.strip() for part in (text or "").split(",")]
    for part in words:
        if part not in PARTS:
            raise ValueError(str(UnknownNameError.of("part", part, PARTS)))
    return words


def _pass(text: str | None) -> str:
    if text is None or (text != "last" and not (text.isdecimal() and int(text))):
        raise ValueError(str(UnknownNameError.of("pass", text or "", ("a number from 1", "last"))))
    return text


def _seconds(text: str | None) -> float:
    try:
        return seconds(text or "")
    except GradtraceError as error:
        raise ValueError(str(error)) from None


def _align(text: str) -> str:
    return str(directives.choice(text, ("left", "center", "right")))


def _context(text: str | None) -> str:
    return str(directives.choice(text, ("reset",))) if text else "keep"


def _choice(text: str | None) -> bool:
    """Return what a flag says, as matplotlib's plot directive reads it: ``:include-source: no``, too."""
    return str(directives.choice(text, ("yes", "no", "true", "false", "1", "0"))) in TRUE if text else True


def _prefix(text: str) -> str:
    if not text or not all(c.isalnum() or c in "-_." for c in text):
        raise ValueError("letters, digits and -_. only")
    return text


class GradtraceDirective(SphinxDirective):
    """``.. gradtrace:: examples/partials.py``: a script, an attribute of a module, or code, and its graph."""

    has_content = True
    optional_arguments = 1
    final_argument_whitespace = True
    option_spec: ClassVar[dict[str, Any]] = {
        "align": _align,
        "alt": directives.unchanged_required,
        "caption": directives.unchanged_required,
        "class": directives.class_option,
        "context": _context,
        "filename-prefix": _prefix,
        "height": directives.length_or_unitless,
        "include-source": _choice,
        "interactive": _choice,
        "name": directives.unchanged,
        "pass": _pass,
        "raises": directives.unchanged_required,
        "show": _parts,
        "show-source-link": _choice,
        "timeout": _seconds,
        "width": directives.length_or_percentage_or_unitless,
    }

    def run(self) -> list[nodes.Node]:
        """Return what stands in the document: source, graph and table, as asked for."""
        try:
            script = scripts.of_directive(self)
        except GradtraceError as error:
            return self._refused(str(error))
        scripts.depend(self.env, script)
        ran = scripts.run(self.env, script)
        problem = self._problem(ran, script)
        shown = [node for part in self._shown() for node in self._part(part, ran, script)]
        return [*shown, *(self._refused(problem, ran) if problem else [])]

    def _shown(self) -> list[str]:
        parts: list[str] = self.options.get("show") or list(self.config.gradtrace_show)
        wanted = self.options.get("include-source", self.config.gradtrace_include_source)
        return ["source", *parts] if wanted and "source" not in parts else parts

    def _part(self, part: str, ran: Ran, script: Script) -> list[nodes.Node]:
        if part == "source":
            return [*self._source(script), *self._link(script)]
        if ran.trace is None:
            return []
        if part == "table":
            return [scripts.table(self.env, ran, script)]
        link = [] if "source" in self._shown() else self._link(script)
        return [self._figure(ran, script), *link]

    def _source(self, script: Script) -> list[nodes.Node]:
        code = scripts.shown_code(self, script)
        block = nodes.literal_block(code, code, language="python")
        self.set_source_info(block)
        return [block]

    def _link(self, script: Script) -> list[nodes.Node]:
        wanted = self.options.get("show-source-link", self.config.gradtrace_show_source_link)
        if not wanted or not script.file:
            return []
        target = "/" + scripts.relative(script.file, self.env.srcdir)
        reference = addnodes.download_reference("", "", refdoc=self.env.docname, reftarget=target, refexplicit=True)
        reference += nodes.literal(script.name, script.name)
        return [nodes.paragraph("", "", reference, classes=["gradtrace-source"])]

    def _figure(self, ran: Ran, script: Script) -> nodes.Node:
        options = {key: self.options.get(key, "") for key in ("alt", "width", "height", "filename-prefix")}
        options["interactive"] = self.options.get("interactive", False)
        options["path"] = scripts.path_in_project(self.env, script)
        picture = gradtrace_graph("", script=script, trace=scripts.kept(self.env, ran), **options)
        figure = nodes.figure("", picture, classes=["gradtrace", *self.options.get("class", [])])
        figure["align"] = self.options.get("align", "default")
        self.set_source_info(figure)
        if "caption" in self.options:
            words, messages = self.parse_inline(self.options["caption"], lineno=self.lineno)
            figure += [nodes.caption("", "", *words), *messages]
        self.add_name(figure)
        return figure

    def _problem(self, ran: Ran, script: Script) -> str:
        """Return what to warn of: an exception that was not announced, or one that was and did not come."""
        announced = self.options.get("raises", "")
        if announced and ran.error == announced:
            return ""
        if announced and not ran.error and not ran.problem:
            return f"{script.name!r} was expected to raise {announced}, and did not"
        return ran.problem

    def _refused(self, problem: str, ran: Ran | None = None) -> list[nodes.Node]:
        """Warn at the line that is to blame, and say in the document that there is no graph."""
        details = f"\n{ran.details}" if ran and ran.details else ""
        place = scripts.place(self, ran.line if ran else 0)
        logger.warning("%s%s", problem, details, location=place, type="gradtrace", subtype="script")
        if ran and ran.trace:
            return []
        words = f"This graph could not be drawn: {problem}."
        return [nodes.paragraph(words, words, classes=["gradtrace-missing"])]


class GradRole(SphinxRole):
    """``:grad:`examples/partials.py::v```: the gradient that a script computes for a tensor."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Return the number, or what stands for it and a warning."""
        try:
            text = self._gradient()
        except GradtraceError as error:
            location = f"{self.get_source_info()[0]}:{self._line()}"
            logger.warning("%s", error, location=location, type="gradtrace", subtype="role")
            return [nodes.inline(self.text, self.text, classes=["gradtrace-missing"])], []
        return [nodes.inline(text, text, classes=["gradtrace-value"])], []

    def _line(self) -> int:
        """Return the role's own line; docutils knows where its paragraph begins."""
        file, start = self.get_source_info()
        lines = Path(file).read_text(encoding="utf-8").splitlines() if Path(file).is_file() else []
        return next((i + 1 for i in range(max(start - 1, 0), len(lines)) if self.rawtext in lines[i]), start)

    def _gradient(self) -> str:
        path, separator, name = self.text.rpartition("::")
        if not separator or not path or not name:
            raise GradtraceError(f"{self.text!r} names no gradient", "write path/to/script.py::name")
        script = scripts.of_path(self.env, path)
        scripts.depend(self.env, script)
        ran = scripts.run(self.env, script)
        if ran.problem or ran.trace is None:
            raise GradtraceError(ran.problem)
        named = {node.name: node for node in reversed(select(ran.trace).nodes) if node.name}
        if name not in named:
            raise UnknownNameError.of("tensor", name, sorted(named))
        grads = named[name].grads
        return stats(grads[0]) if grads else "no gradient"


def _remember(app: Sphinx) -> None:
    app.env.gradtrace_confdir = str(app.confdir)
    app.env.gradtrace_format = app.builder.format


def _copy_styles(app: Sphinx, error: Exception | None) -> None:
    where = {"html": Path(app.outdir, "_static", STYLES.name), "latex": Path(app.outdir, PACKAGE.name)}
    target = where.get(app.builder.format)
    if error is None and target:
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(Path(__file__).with_name(target.name), target)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register all of it; what Sphinx calls."""
    app.add_config_value("gradtrace_timeout", 60.0, "env", types=(int, float))
    app.add_config_value("gradtrace_path", [], "env", types=(list, tuple))
    app.add_config_value("gradtrace_show", ["graph"], "env", types=(list, tuple))
    app.add_config_value("gradtrace_include_source", default=False, rebuild="env", types=(bool,))
    app.add_config_value("gradtrace_show_source_link", default=False, rebuild="env", types=(bool,))
    app.add_config_value("gradtrace_link", "", "html", types=(str,))
    app.add_config_value("gradtrace_dark", "auto", "html", types=(str,))
    app.add_node(gradtrace_graph, html=html, epub=html, latex=latex, text=refuse, man=refuse, texinfo=refuse)
    app.add_post_transform(GraphToText)
    app.add_directive("gradtrace", GradtraceDirective)
    app.add_role("grad", GradRole())
    app.add_css_file(STYLES.name)
    app.add_latex_package(PACKAGE.stem)
    app.connect("builder-inited", _remember)
    app.connect("build-finished", _copy_styles)
    return {"version": __version__, "env_version": 1, "parallel_read_safe": True, "parallel_write_safe": True}
