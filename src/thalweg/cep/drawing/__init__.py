"""Automata and state machines as pictures: a small layered layout, drawn as SVG, without any other program."""
