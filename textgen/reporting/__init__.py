"""The record of a run, and everything that shows it: W&B, console, report, model card."""
