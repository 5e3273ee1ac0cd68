"""Recording: the only part of gradtrace that imports torch. From a running script to a ``model.Trace``.

How a gradient becomes a number in a trace::

    script/session.py       runs the script under a Recorder
    recorder.py             installs everything, sees each call of the engine, keeps what was recorded
    forward/mode.py         notes each torch call: the sequence numbers of its nodes, its line, what it computed
    backward/run_pass.py    one pass: snapshot, hooks in, engine, hooks out, RawPass
    backward/post_hook.py   runs after each node: measures what arrived and what is sent on
    stats/measure.py        chooses the route by which a tensor is measured
    assemble.py             RawPass -> model.BackwardPass, when the script no longer runs

Rooms, each of which imports only those below it::

    script/      run the user's program as python would
    replay/      tape the forward, run it again, compare with finite differences    seeded_pass.py  a pass of our own
    recorder.py  where all is put together                                          graph_only.py   ops without a run
    assemble.py  raw pass -> BackwardPass          facts/  what only checks ask
    backward/    one pass
    forward/     which call and which module made which node
    stats/       a tensor in, TensorStats out
    isolation/   the script runs as it would without gradtrace
    autograd/    PyTorch's private graph, read only        user_code/  frames, lines, names of variables
    native/      the C part: each source has the name of its Python twin
    distributed/ process groups, and the wrappers and tensors that they share

Where to look::

    a number is wrong            stats/routes.py: which route measured it; GRADTRACE_NATIVE=0 takes the C part out
    a CUDA tensor                stats/device.py
    a sparse or complex one      stats/special_tensors.py
    a line is wrong or missing   user_code/frames.py finds it, user_code/source_text.py reads its text
    a module's path              forward/modules.py
    a tensor's name              user_code/variable_names.py
    hooks on nodes               backward/node_hooks.py sets them, backward/post_hook.py is what runs
    a pass inside a pass         backward/nesting.py
    DDP, FSDP, DTensor           distributed/
    torch.compile                isolation/torch_compile.py keeps everything out of its way
    what the script can notice   isolation/: tracebacks, warning_lines, signals, hidden, stack_size
"""
