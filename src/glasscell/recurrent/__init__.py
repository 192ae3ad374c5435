"""What an LSTM is and how it runs: configuration, state, tape, one direction, execution. Below layers and streams."""
