"""The torch side: frozen backbone, learnable prompts, losses."""
