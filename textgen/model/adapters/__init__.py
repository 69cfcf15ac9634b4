"""Low-rank adapters: which weights get one, and adding them with peft.

``weights.py`` finds the weights that could get an adapter, ``targets.py`` chooses among them as ``--lora-targets``
says, ``lora.py`` adds and saves the adapters, and ``quiet_peft.py`` runs peft without its warnings.
"""
