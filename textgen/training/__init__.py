"""One optimizer step and what it needs: schedule, optimizers, checkpoints."""
