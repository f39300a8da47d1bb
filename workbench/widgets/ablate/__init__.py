"""The panel of sweeps and interventions: forms, results, and their plots."""
