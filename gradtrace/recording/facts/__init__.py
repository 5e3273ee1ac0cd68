"""Facts that only checks ask for: lost graphs, in-place changes, leaves over a run, elements that are not finite."""
