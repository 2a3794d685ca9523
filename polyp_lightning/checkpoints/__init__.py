"""What a checkpoint and a run's folder hold; reading and writing them without trusting a file."""
