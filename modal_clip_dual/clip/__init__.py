"""The frozen CLIP: loading it, checking what goes in, images to embeddings."""
