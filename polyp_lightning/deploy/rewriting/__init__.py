"""From a network to the graph that is exported, in rewrites that keep its values."""
