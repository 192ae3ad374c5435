"""What an LSTM is and how it runs: configuration, state, tape, execution. Below layers and streams."""
