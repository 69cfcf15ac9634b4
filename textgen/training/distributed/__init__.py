"""Training on several processes.

``processes.py`` starts this process as one of them. ``exact.py`` sums gradients in an order that does not depend on
their number; ``sharding.py`` is FSDP2 and the files that sharded tensors are saved in; ``deepspeed_zero.py`` is
DeepSpeed's ZeRO, stages 1 and 2.
"""
