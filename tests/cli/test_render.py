"""``gradtrace render``: what lands where, with which exit code, and what it says."""

from __future__ import annotations

import pytest

from tests.scripts import run, write

LOOP = """
    import sys, torch
    w = torch.ones(2, requires_grad=True)
    for step in range(int(sys.argv[1]) if len(sys.argv) > 1 else 3):
        w.grad = None
        (w * w * (step + 1)).sum().backward()
    print("done", sys.argv[1:])
    if "crash" in sys.argv: (w * 2).reshape(7)
    if "exit" in sys.argv: sys.exit(7)
"""
NOTHING = "print('nothing')"
SEEDED = "import torch; x = torch.tensor(3.0, requires_grad=True); y = x * x; kept = x.grad; print(kept)"
DOUBLE = """
    import torch
    x = torch.tensor(3.0, requires_grad=True)
    y = x.exp()
    y.backward()
    y.backward()
"""


@pytest.fixture
def render(tmp_path):
    write(tmp_path, loop=LOOP, nothing=NOTHING, seeded=SEEDED, double=DOUBLE)
    return lambda *arguments: run(tmp_path, "-m", "gradtrace", "render", *arguments)


def test_options_may_stand_before_or_directly_after_the_script_and_the_rest_is_its_own(render):
    done = render("loop.py", "--pass", "2", "-o", "two.json", "5", "-o", "mine", "--pass", "7")
    assert list(done.files) == ["two.json"]
    assert done.stdout == "done ['5', '-o', 'mine', '--pass', '7']\n"
    assert "backward pass 2 of 5" in done.said
    done = render("-o", "picture.dot", "loop.py", "--", "2", "-o", "x.svg")
    assert (list(done.files), done.stdout) == (["picture.dot"], "done ['2', '-o', 'x.svg']\n")


def test_without_options_the_picture_lies_in_the_current_folder_and_the_table_is_printed(render):
    done = render("loop.py", "4")
    assert list(done.files) == ["loop.svg"]
    assert done.files["loop.svg"].startswith(b"<")
    assert "backward pass 4 of 4; 1 to 3 not kept, see --pass" in done.said
    assert "MulBackward0" in done.stderr
    assert (done.stdout, done.code) == ("done ['4']\n", 0)


def test_several_passes_are_as_many_files(render):
    done = render("--pass", "1,3", "-o", "loss.dot", "loop.py")
    assert sorted(done.files) == ["loss-1.dot", "loss-3.dot"]
    assert "1 not kept" in done.said


def test_a_crash_still_yields_the_picture_and_the_script_s_own_code_counts(render, tmp_path):
    plain = run(tmp_path, "loop.py", "3", "crash")
    done = render("-o", "loop.dot", "loop.py", "3", "crash")
    assert (done.code, done.stderr, done.stdout) == (1, plain.stderr, plain.stdout)
    assert list(done.files) == ["loop.dot"]
    assert render("-o", "loop.dot", "loop.py", "3", "exit").code == 7


def test_nothing_to_draw_is_exit_code_3_and_a_second_backward_marks_the_node_that_failed(render, tmp_path):
    nothing = render("nothing.py")
    assert (nothing.code, nothing.stdout, nothing.files) == (3, "nothing\n", {})
    assert "no backward pass" in nothing.said
    plain = run(tmp_path, "double.py")
    done = render("-o", "double.text", "-f", "text", "double.py")
    assert done.code == 1
    assert done.stderr.startswith(plain.stderr)  # and then what the checks find
    assert "Trying to backward through the graph a second time" in done.files["double.text"].decode()


def test_a_script_without_backward_is_seeded_and_stdout_can_be_the_picture_s_alone(render):
    done = render("-f", "svg", "-o", "-", "seeded.py")
    assert done.stdout.startswith("<")
    assert done.stdout.rstrip().endswith("</svg>")
    assert done.stderr == "None\n"
    assert "seeded y with ones" in done.said
    assert (done.code, done.files) == (0, {})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--theme", "nowhere.toml"), "theme 'nowhere.toml' can't be read"),
        (("--link", "https://host/{path}"), "--link 'https://host/{path}' has other braces than {file} and {line}"),
        (("--full", "--depth", "2"), "--full and --depth can't be used together"),
    ],
)
def test_what_can_t_be_drawn_so_is_told_before_the_script_runs(render, options, said):
    done = render(*options, "nothing.py")
    assert (done.code, done.stdout, done.files) == (2, "", {})
    assert said in done.said
