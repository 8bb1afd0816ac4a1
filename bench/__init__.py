"""Benches: how fast Cliniq is, each as a ratio to a yardstick that the same run measured."""
