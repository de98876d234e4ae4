"""The general engine: patterns with loops, options, groups and absence, as a non-deterministic automaton per key."""
