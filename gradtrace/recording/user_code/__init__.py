"""User code: the frame where the script begins, the user's lines, their text, and the names of variables."""
