"""One backward pass: snapshot of the graph, hooks on its nodes, the engine, and the result."""
