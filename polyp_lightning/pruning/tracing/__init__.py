"""Tracing a network: which filters go together, who reads them, and what they cost."""
