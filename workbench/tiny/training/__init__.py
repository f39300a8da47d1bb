"""Training, scoring and checking of the bundled model."""
