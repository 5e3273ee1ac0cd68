"""Facts for the checks, noted while the script runs: acts of the script that no gradient shows.

``collector.py`` has the table of their kinds. ``torch_calls.py`` receives each call and passes it on: to
``lost_graph.py`` (where values lost their graph), ``nonfinite_births.py`` (where NaN and infinity were born),
``broadcasts.py``, ``grad_aliases.py`` and ``kept_graphs.py``; ``shared.py`` holds the state of all threads.
``leaf_history.py`` and ``training_steps.py`` follow leaves and optimizers over the run, ``failures.py`` explains two
errors of backward, ``constructors.py`` sees what Parameter and Variable are made of.
"""
