"""Linear patterns: steps with a fixed number of events, one after the other. One kernel advances all keys."""
