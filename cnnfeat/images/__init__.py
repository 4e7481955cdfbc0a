"""Images: which ones, decoding, preprocessing, loading in batches."""
