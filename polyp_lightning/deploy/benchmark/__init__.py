"""How long a frame takes: ``benchmark``, and the timers of latency budgets."""
