"""The frozen CLIP: loading it, checking its input, turning images into embeddings."""
