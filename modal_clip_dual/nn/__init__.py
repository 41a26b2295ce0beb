"""The torch side: learnable prompts, their losses and their training."""
