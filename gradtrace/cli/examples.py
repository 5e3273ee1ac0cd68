"""Texts of ``gradtrace COMMAND --help`` beside the options: a line on each command, examples and exit codes."""

from __future__ import annotations

__all__ = ["EXAMPLES", "EXIT_CODES", "SUMMARIES", "epilog"]

# Shown whole in the list of commands, so each has to fit in a terminal of 80 columns.
SUMMARIES = {
    "render": "Draw a backward pass of a script or a saved trace.",
    "view": "Walk through backward passes in the browser.",
    "record": "Run a script and save its backward passes to a file.",
    "explain": "Show how each gradient follows from the chain rule.",
    "check": "Find NaN, vanishing, missing and other wrong gradients.",
    "history": "Show gradient norms over all passes of a training.",
    "diff": "Compare the gradients of two saved traces.",
    "embed": "Update the graphs inside Markdown files.",
    "formats": "List the output formats and their file endings.",
    "checks": "List the checks and their thresholds.",
}

# Each command with what it is for; the empty name is gradtrace itself.
EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "": (
        ("gradtrace train.py", "draw the last backward pass; short for: gradtrace render train.py"),
        ("gradtrace check train.py", "find out what is wrong with the gradients"),
        ("gradtrace explain train.py", "see where each gradient comes from"),
    ),
    "render": (
        ("gradtrace render train.py", "the last pass: a table here, and the picture train.svg"),
        ("gradtrace render -o loss.png train.py --lr 1", "a PNG; --lr 1 is passed to train.py"),
        ("gradtrace render --pass 10,100 train.py", "two passes: train-10.svg and train-100.svg"),
        ("gradtrace render -f text -o - train.py", "the table alone, on stdout"),
        ("gradtrace render run.json.gz", "a trace that was saved by gradtrace record"),
    ),
    "view": (
        ("gradtrace view train.py", "run it, and follow it in the browser"),
        ("gradtrace view run.json.gz", "a trace that was saved by gradtrace record"),
        ("gradtrace view before.json after.json", "two traces, side by side"),
        ("gradtrace render -f html train.py", "the same page as a file, to keep or to send"),
    ),
    "record": (
        ("gradtrace record -o run.json.gz train.py", "save all backward passes"),
        ("gradtrace record --pass last -o run.json train.py", "save only the last one"),
        ("gradtrace record --weights 10 -o run.json train.py", "also save updates, for gradtrace history --update"),
        ("gradtrace record --calls --numeric -o run.json train.py", "also save what gradtrace explain needs"),
    ),
    "explain": (
        ("gradtrace explain train.py", "the last pass, in the terminal"),
        ("gradtrace explain --order 2 train.py", "second derivatives, too"),
        ("gradtrace explain -o notes.md train.py", "Markdown with formulas"),
        ("gradtrace explain -o notes.tex train.py", "the equations in LaTeX"),
    ),
    "check": (
        ("gradtrace check train.py", "all backward passes of the script"),
        ("gradtrace check --fail-on warning train.py", "exit with 1 for warnings, too"),
        ("gradtrace check --json train.py", "the findings as JSON, on stdout"),
        ("gradtrace check --threshold vanishing=1e-9 train.py", "report vanishing gradients later"),
    ),
    "history": (
        ("gradtrace history run.json.gz", "a row with a sparkline for each leaf"),
        ("gradtrace history -o norms.svg run.json.gz", "a heat map; .png and .pdf need matplotlib"),
        ("gradtrace history -o norms.csv run.json.gz", "a row for each pass and leaf; also .jsonl, .parquet"),
    ),
    "diff": (
        ("gradtrace diff before.json after.json", "list the differences"),
        ("gradtrace diff -o diff.svg before.json after.json", "and draw them"),
    ),
    "embed": (
        ("gradtrace embed README.md", "run the scripts and update the graphs"),
        ("gradtrace embed --check README.md", "change nothing; exit with 1 if a graph is out of date"),
    ),
}

_SCRIPT = "0 success, 1 the script failed, 2 wrong usage, 3 no backward pass. If the script calls sys.exit(N), N."
EXIT_CODES = {
    "render": _SCRIPT,
    "view": _SCRIPT,
    "record": _SCRIPT,
    "explain": _SCRIPT,
    "check": "0 no finding at or above --fail-on, 1 a finding or the script failed, 2 wrong usage, 3 no backward pass.",
    "history": "0 success, 2 wrong usage, 3 the trace holds no history.",
    "diff": "0 the gradients agree, 1 they differ, 2 wrong usage.",
    "embed": "0 success, 1 with --check: something is out of date, 2 wrong usage or a script that failed.",
}


def epilog(name: str) -> str | None:
    """Return the examples and exit codes of a command as the last part of its help."""
    lines = [line for command, purpose in EXAMPLES.get(name, ()) for line in (f"  {command}", f"      {purpose}")]
    parts = ["\n".join(["\b", "Examples:", *lines])] if lines else []
    parts += [f"Exit codes: {EXIT_CODES[name]}"] if name in EXIT_CODES else []
    return "\n\n".join(parts) or None
