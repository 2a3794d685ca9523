"""What runs a loaded model: one file per runtime, none imported before it is needed."""
