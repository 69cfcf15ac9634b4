"""Training: one optimizer step, and everything that it needs.

Read in this order: ``config.py`` (settings), ``step.py`` (a single training step), ``schedule.py`` (learning rate),
``optimizers.py`` with ``muon.py`` and ``schedule_free.py``, ``precision.py`` (fp32, bf16 or fp16),
``microbatch_size.py`` (the largest that fits into memory), ``prepare.py`` (model and optimizer wrapped for the launched
processes), ``train_state.py`` and ``checkpoints.py`` with ``checkpoint_manifest.py`` (saving and resuming),
``environment.py`` (what a run was computed with), and ``distributed/`` (processes, FSDP2, DeepSpeed, exact sums).
"""
