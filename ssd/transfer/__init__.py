"""Pretrained weights from other files: readers, plan, ledger (no Keras) and the loading itself."""
