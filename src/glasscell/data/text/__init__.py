"""Text: its vocabulary, its files as ids, and batches of parallel streams. Private but for what ``data`` exports."""
